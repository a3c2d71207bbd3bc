# SPDX-License-Identifier: Apache-2.0
# Writes OUT: the digest of all library sources, as cohort_build_id().
file(GLOB_RECURSE files LIST_DIRECTORIES false ${ROOT}/include/*.h ${ROOT}/src/*.[ch])
list(SORT files)
set(all "")
foreach(file IN LISTS files)
    file(SHA256 ${file} digest)
    string(APPEND all ${digest})
endforeach()
string(SHA256 id "${all}")
string(SUBSTRING ${id} 0 32 id)
file(WRITE ${OUT} "#include \"base/build_id.h\"\nconst char *cohort_build_id(void) { return \"${id}\"; }\n")

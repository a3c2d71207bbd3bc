# SPDX-License-Identifier: Apache-2.0
# usage: cmake -DIN=page.html -DOUT=page.c -DNAME=cohort_page_html -P embed.cmake
# A file as an array of bytes, NAME, and its size, NAME_bytes.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x[0-9a-f][0-9a-f],0x[0-9a-f][0-9a-f],0x[0-9a-f][0-9a-f],0x[0-9a-f][0-9a-f],)"
       "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <stddef.h>\n"
     "extern const unsigned char ${NAME}[];\nextern const size_t ${NAME}_bytes;\n"
     "const unsigned char ${NAME}[] = {\n${bytes}};\n"
     "const size_t ${NAME}_bytes = sizeof ${NAME};\n")

# SPDX-License-Identifier: Apache-2.0
# usage: cmake -DCOHORT=path/to/cohort -DOUT=folder -P manuals.cmake
# Man pages and completions, as the command itself prints them, where an install puts them.
function(print file)
    execute_process(COMMAND ${COHORT} ${ARGN} OUTPUT_FILE ${OUT}/${file}
                    COMMAND_ERROR_IS_FATAL ANY)
endfunction()
foreach(folder man/man1 bash-completion/completions zsh/site-functions fish/vendor_completions.d)
    file(MAKE_DIRECTORY ${OUT}/${folder})
endforeach()
print(man/man1/cohort.1 man)
execute_process(COMMAND ${COHORT} man --list OUTPUT_VARIABLE commands
                COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" commands "${commands}")
foreach(command IN LISTS commands)
    string(REPLACE " " "-" page "${command}")
    string(REPLACE " " ";" words "${command}")
    print(man/man1/cohort-${page}.1 man ${words})
endforeach()
print(bash-completion/completions/cohort completion bash)
print(zsh/site-functions/_cohort completion zsh)
print(fish/vendor_completions.d/cohort.fish completion fish)

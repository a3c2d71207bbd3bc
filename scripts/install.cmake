# SPDX-License-Identifier: Apache-2.0
# What `make install` puts where: command, man pages, completions, library, headers, the Python
# of the Ray sidecar, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)
if(TARGET cohort)
    install(TARGETS cohort RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    set(manuals ${CMAKE_CURRENT_BINARY_DIR}/share)
    install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\" -DCOHORT=$<TARGET_FILE:cohort>
                  -DOUT=${manuals} -P \"${PROJECT_SOURCE_DIR}/scripts/manuals.cmake\"
                  COMMAND_ERROR_IS_FATAL ANY)")
    install(DIRECTORY ${manuals}/ DESTINATION ${CMAKE_INSTALL_DATAROOTDIR})
endif()
# Where src/ray/sidecar.c looks: a Python needs Ray, and not this package too.
install(DIRECTORY python/cohort_ray DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/cohort/python
        FILES_MATCHING PATTERN *.py PATTERN py.typed PATTERN __pycache__ EXCLUDE)
set_target_properties(cohort_shared PROPERTIES EXPORT_NAME cohort)
install(TARGETS cohort_shared EXPORT cohort LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/cohort DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT cohort NAMESPACE cohort:: FILE cohort-config.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/cohort)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/cohort-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cohort-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/cohort)
configure_file(scripts/cohort.pc.in cohort.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cohort.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Man pages are made by the program from the tables that make its parser, its --help and the
# configuration's checks, so the list of pages is the list of commands.
if(TARGET walagent-main)
    set(man_dir ${CMAKE_CURRENT_BINARY_DIR}/man)
    add_custom_command(OUTPUT ${man_dir}/man5/walagent.conf.5
        COMMAND ${CMAKE_COMMAND} -E rm -rf ${man_dir}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${man_dir}
        COMMAND walagent-main --man-pages ${man_dir}
        DEPENDS walagent-main COMMENT "Man pages" VERBATIM)
    add_custom_target(man ALL DEPENDS ${man_dir}/man5/walagent.conf.5)
    install(DIRECTORY ${man_dir}/ DESTINATION ${CMAKE_INSTALL_MANDIR})
endif()

# Units go to lib/systemd/system below the prefix (/usr/lib/systemd/system for packages), the sample
# configuration to share/doc: nothing of the administrator's in /etc is ever overwritten.
set(WA_UNIT_DIR ${CMAKE_INSTALL_PREFIX}/lib/systemd/system CACHE PATH "Where systemd units go")
set(unit_staging ${CMAKE_CURRENT_BINARY_DIR}/units)
foreach(unit walagent@.service walagent-backup@.service walagent-backup@.timer)
    file(READ ${CMAKE_CURRENT_SOURCE_DIR}/conf/${unit} text)
    string(REPLACE "/usr/bin/walagent" "${CMAKE_INSTALL_FULL_BINDIR}/walagent" text "${text}")
    file(WRITE ${unit_staging}/${unit} "${text}")
    install(FILES ${unit_staging}/${unit} DESTINATION ${WA_UNIT_DIR})
endforeach()
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/conf/walagent.conf DESTINATION ${CMAKE_INSTALL_DOCDIR})

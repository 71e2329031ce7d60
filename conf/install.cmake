# Units go to lib/systemd/system below the prefix (/usr/lib/systemd/system for packages), the sample
# configuration to share/doc: nothing of the administrator's in /etc is ever overwritten. The units
# name the program by the prefix of the installation ("cmake --install --prefix" included).
set(WA_SYSTEMD_UNIT_DIR lib/systemd/system CACHE STRING "Where systemd units go, below the prefix")
foreach(unit walagent@.service walagent-backup@.service walagent-backup@.timer)
    install(CODE "
        file(READ \"${CMAKE_CURRENT_SOURCE_DIR}/conf/${unit}\" text)
        string(REPLACE \"/usr/bin/walagent\" \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/walagent\"
               text \"\${text}\")
        set(target \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${WA_SYSTEMD_UNIT_DIR}/${unit}\")
        message(STATUS \"Installing: \${target}\")
        file(WRITE \"\${target}\" \"\${text}\")")
endforeach()
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/conf/walagent.conf DESTINATION ${CMAKE_INSTALL_DOCDIR})

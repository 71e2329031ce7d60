/*
 * leave.c - a process that a hook leaves behind: in its own session, without any of the server's
 * files.
 */
#include "commands_internal.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

extern char **environ;

void
wa_leave_behind(char *const *argv)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
    posix_spawn_file_actions_adddup2(&files, 0, 2);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    pid_t child = 0;
    if (posix_spawn(&child, argv[0], &files, &attributes, argv, environ) != 0)
        child = 0;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
}

/*
 * child_fixture.h - tests that need another user or mounts of their own, in a child.
 */
#ifndef WALAGENT_CHILD_FIXTURE_H
#define WALAGENT_CHILD_FIXTURE_H

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_PERMITTED_HERE 77

/* What it returns: 0, NOT_PERMITTED_HERE, or the number of what failed. */
static inline int
in_a_child(int (*run)(const char *dir), const char *dir)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run(dir));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static inline void
assert_child(int code)
{
    if (code == NOT_PERMITTED_HERE) {
        print_message("needs root, mount namespaces or files without a name on tmpfs\n");
        skip();
    }
    assert_int_equal(code, 0);
}

#endif

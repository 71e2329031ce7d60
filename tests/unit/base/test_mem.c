/*
 * test_mem.c - ownership: cleanup, hand-over, copies.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
take_hands_the_pointer_over(void **state)
{
    (void)state;
    char *taken;
    {
        WA_CLEANUP(wa_freep) char *text = wa_strdup("kept");
        taken = WA_TAKE(text);
        assert_null(text);
    }
    assert_string_equal(taken, "kept");
    free(taken);
}

static void
copies_are_equal_and_null_stays_null(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *part = wa_strndup("abcdef", 3);
    WA_CLEANUP(wa_freep) char *bytes = wa_memdup("a\0b", 3);
    WA_CLEANUP(wa_freep) char *text = wa_format("%s-%d", "x", 7);
    assert_string_equal(part, "abc");
    assert_memory_equal(bytes, "a\0b", 3);
    assert_string_equal(text, "x-7");
    assert_null(wa_strdup(NULL));
    assert_null(wa_strndup(NULL, 3));
}

/* A whole one is backed by whole huge pages, or the advice is worth nothing. */
static void
large_memory_begins_at_a_huge_page(void **state)
{
    (void)state;
    const size_t huge = 2u << 20;
    for (size_t size = 0; size <= 3 * huge + 1; size += huge / 2 + 1) {
        WA_CLEANUP(wa_freep) unsigned char *p = wa_malloc_large(size);
        assert_non_null(p);
        if (size > 0)
            p[0] = p[size - 1] = 1;
        assert_true(size < huge || (uintptr_t)p % huge == 0);
    }
}

static void
allocations_of_nothing_are_not_null(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) void *a = wa_malloc(0);
    WA_CLEANUP(wa_freep) void *b = wa_calloc(0, 8);
    WA_CLEANUP(wa_freep) void *c = wa_realloc(NULL, 0);
    WA_CLEANUP(wa_freep) void *d = wa_reallocarray(NULL, 8, 0);
    assert_true(a != NULL && b != NULL && c != NULL && d != NULL);
}

static void
an_array_whose_size_overflows_aborts(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        volatile size_t count = SIZE_MAX / 2;
        close(STDERR_FILENO);
        free(wa_reallocarray(NULL, count, 16));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGABRT : WEXITSTATUS(status) != 0);
}

static void
a_descriptor_is_closed_once_and_errno_kept(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int copy = fd;
    assert_true(fd >= 0);
    errno = ENOENT;
    wa_closep(&fd);
    assert_int_equal(fd, -1);
    wa_closep(&fd);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(take_hands_the_pointer_over),
        cmocka_unit_test(copies_are_equal_and_null_stays_null),
        cmocka_unit_test(large_memory_begins_at_a_huge_page),
        cmocka_unit_test(allocations_of_nothing_are_not_null),
        cmocka_unit_test(an_array_whose_size_overflows_aborts),
        cmocka_unit_test(a_descriptor_is_closed_once_and_errno_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

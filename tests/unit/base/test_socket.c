/*
 * test_socket.c - framed messages on local sockets, and the hooks' small files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/base/file.h"
#include "walagent/base/hook.h"
#include "walagent/base/socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char dir[64];

static int
make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/wa-socket-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int
remove_dir(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    return wa_remove_tree(dir, &err) != WA_OK;
}

static void
pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void
a_message_arrives_with_its_empty_fields(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    int fds[2];
    WA_CLEANUP(wa_strv_done) wa_strv sent = {0};
    WA_CLEANUP(wa_strv_done) wa_strv got = {0};
    pair(fds);
    wa_strv_add(&sent, "ok");
    wa_strv_add(&sent, "");
    wa_strv_add(&sent, "gr\xc3\xbc\xc3\x9f");
    wa_strv_add(&sent, "");
    assert_int_equal(wa_socket_send(fds[0], &sent, &err), WA_OK);
    assert_int_equal(wa_socket_receive(fds[1], NULL, 1000, &got, &err), WA_OK);
    assert_int_equal(got.count, sent.count);
    for (size_t i = 0; i < sent.count; i++)
        assert_string_equal(got.items[i], sent.items[i]);
    close(fds[0]);
    close(fds[1]);
}

static void
malformed_frames_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        wa_status status;
    } cases[] = {
        {"\0\0\0\0", 4, WA_CORRUPT},         {"\xff\xff\xff\xff", 4, WA_CORRUPT},
        {"\0\1\0\1", 4, WA_CORRUPT},         {"\0\0\0\2ab", 6, WA_CORRUPT},
        {"\0\0\0\5ab\0", 7, WA_UNAVAILABLE}, {"\0\0", 2, WA_UNAVAILABLE},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        wa_error err = WA_ERROR_INIT;
        int fds[2];
        WA_CLEANUP(wa_strv_done) wa_strv got = {0};
        wa_strv_add(&got, "untouched");
        pair(fds);
        assert_int_equal(write(fds[0], cases[i].bytes, cases[i].len), cases[i].len);
        close(fds[0]);
        assert_int_equal(wa_socket_receive(fds[1], NULL, 1000, &got, &err), cases[i].status);
        assert_string_equal(got.items[0], "untouched");
        close(fds[1]);
    }
}

static void
a_message_above_the_limit_is_not_sent(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    int fds[2];
    WA_CLEANUP(wa_strv_done) wa_strv sent = {0};
    pair(fds);
    char *large = wa_malloc(WA_SOCKET_FRAME_MAX + 1);
    memset(large, 'x', WA_SOCKET_FRAME_MAX);
    large[WA_SOCKET_FRAME_MAX] = '\0';
    wa_strv_take(&sent, large);
    assert_int_equal(wa_socket_send(fds[0], &sent, &err), WA_INVALID);
    close(fds[0]);
    close(fds[1]);
}

static void
nobody_listening_is_unavailable_and_a_stale_socket_is_replaced(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    int listener = -1, fd = -1, other = -1;
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, "socket");
    assert_int_equal(wa_socket_connect(path, 100, &fd, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_socket_listen(path, &listener, &err), WA_OK);
    assert_int_equal(wa_socket_connect(path, 100, &fd, &err), WA_OK);
    assert_int_equal(wa_socket_listen(path, &other, &err), WA_CONFLICT);
    unsigned uid = 12345;
    assert_int_equal(wa_socket_peer_uid(fd, &uid, &err), WA_OK);
    assert_int_equal(uid, geteuid());
    close(fd);
    close(listener); /* its file stays, as after a crash */
    assert_int_equal(wa_socket_connect(path, 100, &fd, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_socket_listen(path, &listener, &err), WA_OK);
    close(listener);
    unlink(path);
}

static void
what_is_no_socket_is_left_alone(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    int listener = -1;
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, "precious");
    assert_int_equal(wa_file_write(path, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_socket_listen(path, &listener, &err), WA_INVALID);
    assert_true(wa_path_exists(path));
}

static void
a_long_path_works(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    int listener = -1, fd = -1;
    char name[121];
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    WA_CLEANUP(wa_freep) char *deep = wa_path_join(dir, name);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(deep, "socket");
    assert_int_equal(wa_socket_connect(path, 100, &fd, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_mkdir_p(deep, 0700, &err), WA_OK);
    assert_int_equal(wa_socket_listen(path, &listener, &err), WA_OK);
    assert_int_equal(wa_socket_connect(path, 100, &fd, &err), WA_OK);
    close(fd);
    close(listener);
}

static void
a_failure_is_remembered_until_it_is_forgotten(void **state)
{
    (void)state;
    char message[64];
    assert_false(wa_hook_failed_lately(dir, message, sizeof message));
    wa_hook_remember_failure(dir, "the store is down");
    assert_true(wa_hook_failed_lately(dir, message, sizeof message));
    assert_string_equal(message, "the store is down");
    wa_hook_forget_failure(dir);
    assert_false(wa_hook_failed_lately(dir, message, sizeof message));
}

static void
a_state_file_from_the_future_or_past_or_without_sense_does_not_count(void **state)
{
    (void)state;
    static const char *const texts[] = {"1\nold", "99999999999999\nfuture", "", "x\n",
                                        "18446744073709551616\n"};
    wa_error err = WA_ERROR_INIT;
    char message[64];
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/" WA_HOOK_DIR "/pgsql_tmp_failed", dir);
    wa_hook_remember_failure(dir, "makes the directory");
    for (size_t i = 0; i < WA_ARRAY_SIZE(texts); i++) {
        assert_int_equal(
            wa_file_write(path, texts[i], strlen(texts[i]), 0600, WA_WRITE_REPLACE, &err), WA_OK);
        assert_false(wa_hook_failed_lately(dir, message, sizeof message));
    }
}

static void
promoting_lasts_until_its_end(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    uint64_t left = 0;
    assert_false(wa_hook_promoting(dir, &left));
    assert_int_equal(wa_hook_promoting_begin(dir, 60000, &err), WA_OK);
    assert_true(wa_hook_promoting(dir, &left));
    assert_in_range(left, 1, 60000);
    wa_hook_promoting_end(dir);
    assert_false(wa_hook_promoting(dir, &left));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_with_its_empty_fields),
        cmocka_unit_test(malformed_frames_are_refused),
        cmocka_unit_test(a_message_above_the_limit_is_not_sent),
        cmocka_unit_test(nobody_listening_is_unavailable_and_a_stale_socket_is_replaced),
        cmocka_unit_test(what_is_no_socket_is_left_alone),
        cmocka_unit_test(a_long_path_works),
        cmocka_unit_test(a_failure_is_remembered_until_it_is_forgotten),
        cmocka_unit_test(a_state_file_from_the_future_or_past_or_without_sense_does_not_count),
        cmocka_unit_test(promoting_lasts_until_its_end),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

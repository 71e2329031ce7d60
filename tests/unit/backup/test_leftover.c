/*
 * test_leftover.c - whose process is gone, by the writer in a begin.json.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backup_internal.h"

#include "walagent/store/drivers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t
dead_pid(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return pid;
}

static void
a_writer_is_dead_only_on_this_machine_and_without_its_process(void **state)
{
    (void)state;
    long gone = dead_pid(), here = getpid();
    WA_CLEANUP(wa_freep) char *ours = wa_format("db-1.net-%ld-aaaaaaaa", here);
    WA_CLEANUP(wa_freep) char *dead = wa_format("db-1.net-%ld-bbbbbbbb", gone);
    WA_CLEANUP(wa_freep) char *alive = wa_format("db-1.net-%ld-bbbbbbbb", (long)getppid());
    WA_CLEANUP(wa_freep) char *far = wa_format("db-2.net-%ld-bbbbbbbb", gone);
    WA_CLEANUP(wa_freep) char *earlier = wa_format("db-1.net-%ld-bbbbbbbb", here);
    assert_true(wa_backup_writer_is_dead(dead, ours));
    assert_true(wa_backup_writer_is_dead(earlier, ours)); /* our pid, but not us */
    assert_false(wa_backup_writer_is_dead(alive, ours));
    assert_false(wa_backup_writer_is_dead(far, ours));
    assert_false(wa_backup_writer_is_dead(ours, ours));
    static const char *const odd[] = {"",
                                      "x",
                                      "-",
                                      "db-1.net",
                                      "db-1.net--bbbbbbbb",
                                      "db-1.net-x-bbbbbbbb",
                                      "db-1.net-0-bbbbbbbb",
                                      "db-1.net-99999999999-bbbbbbbb"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(odd); i++)
        assert_false(wa_backup_writer_is_dead(odd[i], ours));
}

static void
only_dead_runs_are_cleaned_and_backups_never(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    wa_cluster identity = {
        .system_identifier = 7, .major = 15, .segment_size = 1 << 24, .since = wa_time_now()};
    bool created = false;
    assert_int_equal(wa_repo_of_store(wa_store_mem_new(), "main", 1, &repo, &err), WA_OK);
    assert_int_equal(wa_repo_init(repo, &identity, false, &created, &err), WA_OK);
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *mine = wa_backup_info_new();
    wa_backup_new_label(false, wa_time_now(), mine->label);
    mine->system_identifier = 7;
    mine->major = 15;
    mine->segment_size = 1 << 24;
    assert_int_equal(wa_backup_begin(repo, mine, &err), WA_OK); /* a run of this process */
    char dead[WA_LABEL_SIZE];
    do
        wa_backup_new_label(false, wa_time_now(), dead);
    while (strcmp(dead, mine->label) == 0);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, dead, "begin.json");
    WA_CLEANUP(wa_freep) char *writer = wa_strdup(wa_repo_writer(repo));
    char *random = strrchr(writer, '-');
    *random = '\0';
    *strrchr(writer, '-') = '\0';
    WA_CLEANUP(wa_freep)
    char *meta = wa_format("{\"v\":1,\"kind\":\"backup\",\"writer\":\"%s-%ld-00000000\"}", writer,
                           (long)dead_pid());
    assert_int_equal(wa_store_put(wa_repo_store(repo), key, &(wa_body){.data = "{}", .len = 2},
                                  meta, WA_PUT_CREATE, &err),
                     WA_OK);
    size_t count = 0;
    assert_int_equal(wa_backup_clean_dead(repo, &count, &err), WA_OK);
    assert_int_equal(count, 1);
    WA_CLEANUP(wa_backups_done) wa_backups left = {0};
    assert_int_equal(wa_backups_load(repo, &left, &err), WA_OK);
    assert_int_equal(left.unfinished.count, 1);
    assert_string_equal(left.unfinished.items[0], mine->label);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_writer_is_dead_only_on_this_machine_and_without_its_process),
        cmocka_unit_test(only_dead_runs_are_cleaned_and_backups_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

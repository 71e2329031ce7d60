/*
 * test_single_writer.c - a second agent beside the one writer of a repository without conditional
 * PUT.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "streamer_internal.h"

#include "walagent/store/drivers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT (1024u * 1024)

typedef struct fixture {
    char dir[64];
    wa_repo *repo;
    wa_streamer *s;
    wa_error err;
} fixture;

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != WA_OK)                                                                       \
            fail_msg("%s: %s", #call, (f)->err.message);                                           \
    } while (0)

/* init finds out about the store; then another agent becomes the writer. */
static int
setup_on(void **state, wa_store *store)
{
    fixture *f = calloc(1, sizeof *f);
    bool created = false;
    wa_cluster cluster = {.system_identifier = 7, .major = 15, .segment_size = SEGMENT};
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_branch branch = wa_branch_of(7, 1, NULL, 0, NULL, 0);
    snprintf(f->dir, sizeof f->dir, "/tmp/wa-single-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    OK(f, wa_repo_of_store(store, "main", 1, &f->repo, &f->err));
    OK(f, wa_repo_init(f->repo, &cluster, false, &created, &f->err));
    wa_streamer_options options = {.conninfo = "unused", .slot = "unused", .spool_dir = f->dir};
    OK(f, wa_streamer_new(f->repo, &options, &f->s, &f->err));
    OK(f, wa_spool_open(f->dir, SEGMENT, &f->s->spool, &f->err));
    f->s->cluster = *wa_repo_cluster(f->repo);
    OK(f, wa_role_identity(f->s, &f->err));
    wa_lineage_append(l, &branch, 0);
    l->epoch = 1;
    snprintf(l->writer, sizeof l->writer, "db1-812-9f31c2aa");
    OK(f, wa_lineage_store(f->repo, l, &f->err));
    *state = f;
    return 0;
}

static int
setup(void **state)
{
    return setup_on(state, wa_store_mem_new());
}

static int
setup_unconditional(void **state)
{
    wa_store *store = wa_store_fault_new(wa_store_mem_new());
    wa_store_fault_set(store, "put", 1, 1000000, WA_FAULT_OVERWRITE);
    return setup_on(state, store);
}

static int
teardown(void **state)
{
    fixture *f = *state;
    char command[128];
    wa_streamer_free(f->s);
    wa_repo_free(f->repo);
    snprintf(command, sizeof command, "%s/writer", f->dir);
    remove(command);
    snprintf(command, sizeof command, "%s/lock", f->dir);
    remove(command);
    assert_int_equal(remove(f->dir), 0);
    free(f);
    return 0;
}

static void
the_second_agent_is_refused_and_told_what_to_do(void **state)
{
    fixture *f = *state;
    wa_role role;
    bool fresh;
    assert_true(f->s->cluster.single_writer);
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_int_equal(role, WA_ROLE_WAITING);
    assert_int_equal(wa_single_writer_refuse_second(f->s, &f->err), WA_UNSUPPORTED);
    assert_non_null(strstr(f->err.message, "conditional PUT"));
    assert_non_null(strstr(f->err.message, "db1-812-9f31c2aa"));

    /* What the hint says makes it the writer. */
    char path[128];
    snprintf(path, sizeof path, "%s/writer", f->dir);
    assert_non_null(strstr(f->err.hint, path));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("db1-812-9f31c2aa", file);
    fclose(file);
    OK(f, wa_role_identity(f->s, &f->err));
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_int_equal(role, WA_ROLE_WRITER);
}

static void
with_conditional_put_a_second_agent_may_wait(void **state)
{
    fixture *f = *state;
    wa_role role;
    bool fresh;
    assert_false(f->s->cluster.single_writer);
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_int_equal(role, WA_ROLE_WAITING);
    OK(f, wa_single_writer_refuse_second(f->s, &f->err));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_second_agent_is_refused_and_told_what_to_do,
                                        setup_unconditional, teardown),
        cmocka_unit_test_setup_teardown(with_conditional_put_a_second_agent_may_wait, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_reconcile.c - what a reconciliation takes for archived lasts: whoever wrote it may have died
 * before it had seen to that. The archive is a directory; which of its directories are synced is
 * counted where the program asks the kernel for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "streamer_fixture.h"
#include "wal_builder.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AT(segno) ((wa_lsn)(segno)*SEGMENT)

typedef struct fixture {
    char dir[64], archive[64];
    wa_repo *repo;
    wa_streamer *s;
    wa_branch branch;
    wal_builder *wal; /* from segment 1 on */
    wa_error err;
} fixture;

/* libc's function is replaced in this program. */
static wa_strv synced; /* directories of the archive, behind the cluster's and its system's */
static bool sync_fails;

int
fsync(int fd)
{
    char self[32], path[512] = "";
    struct stat st;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && readlink(self, path, sizeof path - 1) > 0 &&
        strstr(path, "/wa-archive-") != NULL) {
        if (sync_fails) {
            errno = EIO;
            return -1;
        }
        const char *inner = strstr(path, "/main/");
        inner = inner == NULL ? NULL : strchr(inner + strlen("/main/"), '/');
        wa_strv_add(&synced, inner == NULL ? path : inner + 1);
    }
    return (int)syscall(SYS_fsync, fd);
}

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_store *store = NULL;
    (void)snprintf(f->archive, sizeof f->archive, "/tmp/wa-archive-XXXXXX");
    assert_non_null(mkdtemp(f->archive));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", f->archive);
    wa_store_options options = {.url = url};
    OK(f, wa_store_open(&options, &store, &f->err));
    begin_streamer(f->dir, store, true, &f->repo, &f->s);
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->s->lineage = wa_lineage_new();
    wa_lineage_append(f->s->lineage, &f->branch, 0);
    f->s->lineage->epoch = 2;
    f->wal = wal_builder_new(NULL);
    for (int segno = 1; segno <= 3; segno++)
        wal_fill_segment(f->wal);
    wal_fill_until(f->wal, AT(4) + 50000);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    end_streamer(f->dir, f->repo, f->s);
    OK(f, wa_remove_tree(f->archive, &f->err));
    wal_builder_free(f->wal);
    wa_strv_done(&synced);
    sync_fails = false;
    free(f);
    return 0;
}

static const uint8_t *
bytes_at(fixture *f, wa_lsn lsn)
{
    return wal_bytes(f->wal) + (lsn - SEGMENT);
}

static void
archive_whole(fixture *f, wa_segno segno)
{
    wa_put_outcome outcome;
    OK(f, wa_wal_put(f->repo, &f->branch, segno, bytes_at(f, AT(segno)), NULL, 1, NULL, true,
                     &outcome, &f->err));
}

static void
archive_chunk(fixture *f, uint32_t epoch, wa_lsn begin, wa_lsn end)
{
    OK(f, wa_tail_put(f->repo, &f->branch, epoch, begin, begin, bytes_at(f, begin), end - begin,
                      NULL, true, &f->err));
}

/* Whole segments 1 and 2, from there on chunks of two epochs up to where the WAL ends; and chunks
 * that the whole ones have replaced. */
static void
archive(fixture *f)
{
    archive_chunk(f, 1, AT(1), AT(1) + 100);
    archive_chunk(f, 1, AT(2), AT(2) + 100);
    archive_whole(f, 1);
    archive_whole(f, 2);
    archive_chunk(f, 1, AT(3), AT(3) + 1000);
    archive_chunk(f, 1, AT(3) + 1000, AT(3) + 2000);
    archive_chunk(f, 2, AT(3) + 2000, AT(4));
    archive_chunk(f, 2, AT(4), wal_position(f->wal));
    wa_strv_done(&synced);
}

static void
the_directories_that_decide_the_tip_are_synced_and_no_others(void **state)
{
    fixture *f = *state;
    char branch[WA_BRANCH_TEXT];
    archive(f);
    OK(f, wa_reconcile(f->s, AT(1), &f->err));
    assert_true(f->s->flow.ready && f->s->flow.durable == wal_position(f->wal));
    wa_branch_format(&f->branch, branch);
    const char *dirs[][2] = {{"tail", "000000010000000000000004/00000002"},
                             {"tail", "000000010000000000000003/00000001"},
                             {"tail", "000000010000000000000003/00000002"},
                             {"wal", "00000000"}};
    assert_int_equal(synced.count, WA_ARRAY_SIZE(dirs));
    for (size_t i = 0; i < WA_ARRAY_SIZE(dirs); i++) {
        WA_CLEANUP(wa_freep) char *dir = wa_format("%s/%s/%s", dirs[i][0], branch, dirs[i][1]);
        assert_string_equal(synced.items[i], dir);
    }
}

/* The spool has segment 2, and the server is told nothing. */
static void
nothing_is_given_up_for_what_may_not_last(void **state)
{
    fixture *f = *state;
    uint64_t size = 0;
    archive(f);
    OK(f, wa_spool_put(f->s->spool, &f->branch, 2, bytes_at(f, AT(2)), SEGMENT, &f->err));
    sync_fails = true;
    assert_int_equal(wa_reconcile(f->s, AT(1), &f->err), WA_IO);
    assert_non_null(strstr(f->err.message, "could not fsync directory"));
    assert_true(!f->s->flow.ready && f->s->flow.durable == 0);
    wa_error_clear(&f->err);
    OK(f, wa_spool_size(f->s->spool, &f->branch, 2, &size, &f->err));
    assert_true(size == SEGMENT);
    sync_fails = false;
    OK(f, wa_reconcile(f->s, AT(1), &f->err));
    assert_int_equal(wa_spool_size(f->s->spool, &f->branch, 2, &size, &f->err), WA_NOT_FOUND);
}

static void
a_tip_before_a_gap_rests_on_what_lies_before_it(void **state)
{
    fixture *f = *state;
    archive_chunk(f, 1, AT(1), AT(1) + 1000);
    archive_whole(f, 3); /* by archive_command, which was set up later */
    wa_strv_done(&synced);
    OK(f, wa_reconcile(f->s, AT(1), &f->err));
    assert_true(f->s->flow.durable == AT(1) + 1000);
    assert_int_equal(synced.count, 1);
    assert_non_null(strstr(synced.items[0], "/000000010000000000000001/00000001"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_directories_that_decide_the_tip_are_synced_and_no_others),
        TEST(nothing_is_given_up_for_what_may_not_last),
        TEST(a_tip_before_a_gap_rests_on_what_lies_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

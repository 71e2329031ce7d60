/*
 * test_push_full.c - archive_command into a directory: drafts, a file system that is full, and what
 * another process has written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"
#include "push_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define SEG3 "000000010000000000000003"
#define FRAMES 8u
#define LARGE (FRAMES * WA_FRAME_WAL)

/* libc's functions are replaced in this program. The archive is written with pwrite. */
static _Atomic bool disk_is_full;
static _Atomic int writes_left; /* that work all the same */
static _Atomic unsigned drafts_named;

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (disk_is_full && writes_left-- <= 0) {
        errno = ENOSPC;
        return -1;
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, data, len, offset);
}

/* Of directories of the archive. */
static _Atomic unsigned directories_synced;
static _Atomic bool sync_fails;

int
fsync(int fd)
{
    char self[32], path[256] = "";
    struct stat st;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && readlink(self, path, sizeof path - 1) > 0 &&
        strstr(path, "/archive/") != NULL) {
        directories_synced++;
        if (sync_fails) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(SYS_fsync, fd);
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    drafts_named += (flags & AT_SYMLINK_FOLLOW) != 0;
    return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

static wal_builder *
large_segment(uint32_t xid)
{
    wal_builder *b = wal_builder_new(
        &(wal_builder_options){.start = UINT64_C(3) * LARGE, .segment_size = LARGE});
    wal_add_commit(b, xid, 1000);
    wal_fill_segment(b);
    return b;
}

static void
a_segment_is_compressed_into_a_draft_of_the_archive(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = use_directory(f, SEGMENT);
    wal_builder *b = full_segment(700);
    drafts_named = 0;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(drafts_named, 1);
    wal_builder_free(b);
}

/* How a segment is read: as a whole and compressed afterwards, or a frame at a time, compressed by
 * others or by the one who reads. */
typedef struct reading {
    bool pool, room;
} reading;
static const reading readings[] = {{false, false}, {true, false}, {false, true}};

/* An answer was lost, and the archive is full when the server asks again: from the first write on,
 * or a later one. */
static void
a_full_archive_takes_what_it_has_and_nothing_else(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    char xxh3[WA_XXH_HEX];
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = use_directory(f, LARGE);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    wa_push_room room = {.segment = NULL};
    OK(wa_pool_new("work", 2, 2, &pool, &err));
    wal_builder *b = large_segment(700), *other = large_segment(701);
    OK(push(f, SEG3, wal_bytes(b), LARGE, &result, &err));
    for (size_t i = 0; i < WA_ARRAY_SIZE(readings); i++)
        for (int after = 0; after <= (int)FRAMES; after += (int)FRAMES / 2) {
            f->push.pool = readings[i].pool ? pool : NULL;
            f->push.room = readings[i].room ? &room : NULL;
            result = (wa_push_result){0};
            disk_is_full = true;
            writes_left = after;
            OK(push(f, SEG3, wal_bytes(b), LARGE, &result, &err));
            assert_int_equal(result.outcome, WA_PUT_SAME);
            assert_true(result.checked && wa_branch_eq(&result.branch, &f->first));
            assert_string_equal(result.xxh3, wa_xxh_of(wal_bytes(b), LARGE, xxh3));
            writes_left = after;
            FAILS(push(f, SEG3, wal_bytes(other), LARGE, &result, &err), WA_NO_SPACE);
            assert_non_null(strstr(err.message, "No space left"));
            wa_error_clear(&err);
            disk_is_full = false;
        }
    wa_push_room_done(&room);
    wal_builder_free(b);
    wal_builder_free(other);
}

/* Whoever wrote it may have died before its name was durable. */
static void
a_full_archive_says_of_no_segment_that_it_has_it_before_that_lasts(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = use_directory(f, SEGMENT);
    wal_builder *b = full_segment(700);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    disk_is_full = true;
    writes_left = 0;
    directories_synced = 0;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(directories_synced, 1);
    sync_fails = true;
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_NO_SPACE);
    assert_int_equal(directories_synced, 2);
    sync_fails = disk_is_full = false;
    wal_builder_free(b);
}

static bool
known(void *arg, const char *name, char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    const fixture *f = arg;
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->wal_dir, name);
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(SEGMENT);
    OK(wa_file_read(path, SEGMENT, &bytes, &err));
    wa_xxh_of(bytes.data, bytes.len, ret_xxh3);
    *ret_branch = f->first;
    return true;
}

/* As above, where nothing is full: the server recycles the segment on this answer. What this
 * process made durable needs no look at the archive. */
static void
a_segment_that_another_process_wrote_is_acknowledged_when_it_lasts(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = use_directory(f, SEGMENT);
    wal_builder *b = full_segment(700);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    f->push.look_first = true;
    directories_synced = 0;
    result = (wa_push_result){0};
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    assert_int_equal(directories_synced, 1);
    sync_fails = true;
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_IO);
    assert_non_null(strstr(err.message, "could not fsync directory"));
    f->push.knows = known;
    f->push.knows_arg = f;
    directories_synced = 0;
    wa_error_clear(&err);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    assert_int_equal(directories_synced, 0);
    sync_fails = false;
    wal_builder_free(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_segment_is_compressed_into_a_draft_of_the_archive),
        TEST(a_full_archive_takes_what_it_has_and_nothing_else),
        TEST(a_full_archive_says_of_no_segment_that_it_has_it_before_that_lasts),
        TEST(a_segment_that_another_process_wrote_is_acknowledged_when_it_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

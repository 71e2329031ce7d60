/*
 * test_get_whole.c - a segment of several frames, written while it is decompressed: whole,
 * verified, or nothing at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

#define LARGE (8u * 1024 * 1024)
#define FRAMES 4u
#define NAME "000000010000000000000001"
#define BEFORE "what was there before"

typedef struct large {
    wa_repo *repo;
    wa_store *store;
    wa_pool *pool;
    wa_branch branch;
    wal_builder *wal; /* segment 1 */
    char dir[64], target[96];
} large;

static int
set_up(void **state)
{
    wa_error err = WA_ERROR_INIT;
    large *l = wa_calloc(1, sizeof *l);
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = LARGE};
    bool created = false;
    l->store = wa_store_mem_new();
    OK(wa_repo_of_store(l->store, "main", 1, &l->repo, &err));
    OK(wa_repo_init(l->repo, &identity, false, &created, &err));
    OK(wa_repo_load(l->repo, &err));
    OK(wa_pool_new("get", 3, 8, &l->pool, &err));
    l->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    l->wal = wal_builder_new(&(wal_builder_options){.start = LARGE, .segment_size = LARGE});
    wal_fill_segment(l->wal);
    snprintf(l->dir, sizeof l->dir, "/tmp/wa-whole-XXXXXX");
    assert_non_null(mkdtemp(l->dir));
    snprintf(l->target, sizeof l->target, "%s/RECOVERYXLOG", l->dir);
    *state = l;
    return 0;
}

static int
tear_down(void **state)
{
    wa_error err = WA_ERROR_INIT;
    large *l = *state;
    OK(wa_remove_tree(l->dir, &err));
    wal_builder_free(l->wal);
    wa_pool_free(l->pool);
    wa_repo_free(l->repo);
    free(l);
    return 0;
}

static void
put(large *l, bool checked)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    OK(wa_wal_put(l->repo, &l->branch, 1, wal_bytes(l->wal), NULL, 1, NULL, checked, &outcome,
                  &err));
}

static wa_status
get(large *l, wa_get_mode mode, bool parallel, wa_get_result *ret, wa_error *err)
{
    wa_get_options options = {
        .repo = l->repo, .pool = parallel ? l->pool : NULL, .data_dir = l->dir};
    wa_error_clear(err);
    return wa_get_file(&options, mode, NAME, l->target, ret, err);
}

static size_t
files_in(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* The target and nothing else, with this content. */
static void
assert_holds(const large *l, const void *content, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(LARGE + 1);
    OK(wa_file_read(l->target, LARGE + 1, &bytes, &err));
    assert_int_equal(bytes.len, len);
    assert_memory_equal(bytes.data, content, len);
    assert_int_equal(files_in(l->dir), 1);
}

/* In every mode, by one thread and by several; what was there stays, and nothing else does. */
static void
assert_refused(large *l, wa_status expected, const char *why)
{
    wa_error err = WA_ERROR_INIT;
    wa_get_result result = {0};
    for (int i = 0; i < 6; i++) {
        OK(wa_file_write(l->target, BEFORE, strlen(BEFORE), 0600, WA_WRITE_REPLACE, &err));
        FAILS(get(l, (wa_get_mode)(i / 2), i % 2 == 1, &result, &err), expected);
        if (strstr(err.message, why) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.message, why);
        assert_holds(l, BEFORE, strlen(BEFORE));
    }
}

static void
every_frame_comes_to_its_place(void **state)
{
    large *l = *state;
    wa_error err = WA_ERROR_INIT;
    wa_get_result result = {0};
    put(l, true);
    for (int i = 0; i < 6; i++) {
        OK(get(l, (wa_get_mode)(i / 2), i % 2 == 1, &result, &err));
        assert_holds(l, wal_bytes(l->wal), LARGE);
        assert_string_equal(result.note, "");
        assert_false(result.from_tail);
        assert_int_equal(result.end, 2 * LARGE);
        assert_int_equal(unlink(l->target), 0);
    }
}

static void
a_damaged_frame_leaves_no_file_wherever_it_is(void **state)
{
    large *l = *state;
    wa_error err = WA_ERROR_INIT;
    put(l, true);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(l->repo, &l->branch, 1);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(2 * LARGE);
    OK(wa_store_get(l->store, key, 0, UINT64_MAX, &stored, &meta, &err));
    WA_CLEANUP(wa_ranges_freep) wa_ranges *r = wa_ranges_of_memory(stored.data, stored.len, key);
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    OK(wa_container_open(r, &c, &err));
    assert_int_equal(wa_container_frames(c), FRAMES);
    wa_body body = {.data = stored.data, .len = stored.len, .fd = -1};
    for (size_t i = 0; i < FRAMES; i++) {
        wa_frame_info frame = wa_container_frame(c, i);
        char *last = &stored.data[frame.offset + frame.size - 1]; /* of its checksum */
        *last ^= 1;
        OK(wa_store_put(l->store, key, &body, meta, WA_PUT_REPLACE, &err));
        assert_refused(l, WA_CORRUPT, "is damaged: frame at offset");
        *last ^= 1;
    }
}

/* Each frame is what was written, the whole is not: only what is looked at last tells. */
static void
frames_in_another_order_leave_no_file(void **state)
{
    large *l = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) uint8_t *zeroes = wa_calloc(1, LARGE);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(l->repo, &l->branch, 1);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(2 * LARGE);
    wa_put_outcome outcome;
    const size_t frame_size = LARGE / FRAMES;
    zeroes[2 * frame_size] = 1; /* frames of one length, with other content */
    zeroes[3 * frame_size] = 2;
    OK(wa_wal_put(l->repo, &l->branch, 1, zeroes, NULL, 1, NULL, false, &outcome, &err));
    OK(wa_store_get(l->store, key, 0, UINT64_MAX, &stored, &meta, &err));
    WA_CLEANUP(wa_ranges_freep) wa_ranges *r = wa_ranges_of_memory(stored.data, stored.len, key);
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    OK(wa_container_open(r, &c, &err));
    wa_frame_info a = wa_container_frame(c, 2), b = wa_container_frame(c, 3);
    assert_int_equal(a.size, b.size);
    WA_CLEANUP(wa_freep) void *moved = wa_memdup(stored.data + a.offset, a.size);
    memcpy(stored.data + a.offset, stored.data + b.offset, a.size);
    memcpy(stored.data + b.offset, moved, a.size);
    wa_body body = {.data = stored.data, .len = stored.len, .fd = -1};
    OK(wa_store_put(l->store, key, &body, meta, WA_PUT_REPLACE, &err));
    assert_refused(l, WA_CORRUPT, "its content is not the one that was written");
}

/* The checksums fit; the archive says that the records were right, and they are not. */
static void
records_that_contradict_leave_no_file_wherever_they_are(void **state)
{
    large *l = *state;
    for (size_t i = 0; i < FRAMES; i++) {
        wa_error err = WA_ERROR_INIT;
        WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
        WA_CLEANUP(wa_freep) char *key = wa_wal_key(l->repo, &l->branch, 1);
        uint8_t *byte = &wal_bytes_mutable(l->wal)[(i + 1) * (LARGE / FRAMES) - 100000];
        *byte ^= 1;
        put(l, true);
        assert_refused(l, WA_CORRUPT, "contradicts itself");
        *byte ^= 1;
        wa_strv_add(&keys, key);
        OK(wa_store_delete(l->store, &keys, &err));
    }
}

static void
a_segment_that_ends_early_leaves_no_file(void **state)
{
    large *l = *state;
    wal_builder_free(l->wal);
    l->wal = wal_builder_new(&(wal_builder_options){.start = LARGE, .segment_size = LARGE});
    wal_fill_until(l->wal, 2 * LARGE - 500000);
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    WA_CLEANUP(wa_freep) uint8_t *padded = wa_calloc(1, LARGE);
    memcpy(padded, wal_bytes(l->wal), wal_size(l->wal));
    OK(wa_wal_put(l->repo, &l->branch, 1, padded, NULL, 1, NULL, true, &outcome, &err));
    assert_refused(l, WA_CORRUPT, "is not complete");
}

/* Files may grow to the limit only: some frames are written and others not, by whichever thread. */
static void
a_write_that_fails_is_told_and_leaves_no_file(void **state)
{
    large *l = *state;
    struct rlimit was, now;
    put(l, true);
    assert_int_equal(sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    for (size_t whole = 0; whole < FRAMES; whole++) {
        now = was;
        now.rlim_cur = whole * (LARGE / FRAMES) + 100000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
        assert_refused(l, WA_IO, "could not write to file");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    }
}

static void
a_directory_that_is_not_there_is_no_answer_about_the_segment(void **state)
{
    large *l = *state;
    wa_error err = WA_ERROR_INIT;
    wa_get_result result = {0};
    put(l, true);
    snprintf(l->target, sizeof l->target, "%s/nowhere/RECOVERYXLOG", l->dir);
    for (int i = 0; i < 6; i++) {
        FAILS(get(l, (wa_get_mode)(i / 2), i % 2 == 1, &result, &err), WA_IO);
        assert_non_null(strstr(err.message, "could not create file"));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_frame_comes_to_its_place),
        TEST(a_damaged_frame_leaves_no_file_wherever_it_is),
        TEST(frames_in_another_order_leave_no_file),
        TEST(records_that_contradict_leave_no_file_wherever_they_are),
        TEST(a_segment_that_ends_early_leaves_no_file),
        TEST(a_write_that_fails_is_told_and_leaves_no_file),
        TEST(a_directory_that_is_not_there_is_no_answer_about_the_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

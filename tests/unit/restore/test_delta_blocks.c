/*
 * test_delta_blocks.c - --delta within a file: what stays, what is fetched, and that it is right at
 * last.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "restore_internal.h"

#include "plan_fixture.h"

#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/codec/container.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LABEL "20261127T010000Z-F-00aa"
#define FRAME 4096u
#define BEFORE 100u /* bytes of the pack before the file: frames and file have no common border */
#define PARTS 21u
#define SIZE (PARTS * FRAME - BEFORE - 1000) /* the last part is not a whole frame either */
#define MTIME 1700000000
#define CONTROL (BEFORE + SIZE + 512)
#define PACK_END (64u * 1024) /* is read at first, and not again */
#define BEHIND (128u * 1024)  /* the end of the pack, which comes with its facts, has no file */

typedef struct archive {
    wa_repo *repo;
    wa_store *main; /* faults */
    wa_store *store;
    char dir[64];
    char *path;
    uint8_t content[SIZE], old[2 * SIZE];
    wa_restore_counts counts;
} archive;

static void
fill(uint8_t *data, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(i % 16 < 8 ? i >> 8 : seed >> 24);
    }
}

/* Of the file's bytes, those that frame k of the pack has. */
static size_t
begin_of(size_t k)
{
    return k == 0 ? 0 : k * FRAME - BEFORE;
}

static void
put_container(archive *a, const char *name, const void *data, size_t len, bool publish)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1u << 24);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(a->repo, LABEL, name);
    wa_json_set_string(facts, "kind", strcmp(name, "files.zst") == 0 ? "files" : "pack");
    OK(wa_container_writer_new(sink, NULL, 1, FRAME, &w, &err));
    if (publish)
        wa_container_publish_sums(w);
    OK(wa_container_write(w, data, len, &err));
    OK(wa_container_finish(w, facts, NULL, &err));
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(a->store, key, &body, NULL, WA_PUT_REPLACE, &err));
}

static void
put_list(archive *a)
{
    WA_CLEANUP(wa_buf_done) wa_buf list = WA_BUF_INIT(1u << 16);
    wa_backup_file file = {.path = "base",
                           .type = 'f',
                           .size = SIZE,
                           .offset = BEFORE,
                           .mode = 0600,
                           .pack = 1,
                           .mtime = MTIME};
    wa_backup_file_line(&file, &list);
    file.path = WA_CONTROL_PATH;
    file.offset = CONTROL;
    file.size = 8192;
    wa_backup_file_line(&file, &list);
    put_container(a, "files.zst", list.data, list.len, false);
}

/* A backup of one file with a->content, and pg_control. */
static void
put_files(archive *a, bool publish)
{
    const size_t size = CONTROL + 8192 + BEHIND;
    WA_CLEANUP(wa_freep) uint8_t *raw = wa_calloc(1, size);
    uint64_t noise = 88172645463325252u;
    memcpy(raw + BEFORE, a->content, SIZE);
    for (size_t i = CONTROL + 8192; i < size; i++) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        raw[i] = (uint8_t)(noise >> 24);
    }
    put_container(a, "pack-00001.tar.zst", raw, size, publish);
    put_list(a);
}

static void
archive_open_with(archive *a, wa_store *far)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    memset(a, 0, sizeof *a);
    a->store = a->main = wa_store_fault_new(wa_store_mem_new());
    if (far != NULL)
        a->store = wa_store_mirror_new(a->main, &(wa_mirror){far, "far"}, 1);
    OK(wa_repo_of_store(a->store, "main", 1, &a->repo, &err));
    if (far != NULL)
        wa_repo_only_read(a->repo, false); /* as the command does */
    OK(wa_repo_init(a->repo, &identity, false, &created, &err));
    snprintf(a->dir, sizeof a->dir, "/tmp/walagent-blocks-XXXXXX");
    assert_non_null(mkdtemp(a->dir));
    a->path = wa_path_join(a->dir, "base");
    fill(a->content, SIZE, 7);
}

static archive *
archive_new(bool publish)
{
    archive *a = wa_malloc(sizeof *a);
    archive_open_with(a, NULL);
    put_files(a, publish);
    return a;
}

static void
archive_free(archive *a)
{
    (void)unlink(a->path);
    assert_int_equal(rmdir(a->dir), 0);
    wa_freep(&a->path);
    wa_repo_free(a->repo);
    wa_freep(&a);
}

static void
archive_freep(archive **a)
{
    archive_free(*a);
}

static void
put_old(const archive *a, const void *data, size_t len)
{
    WA_CLEANUP(wa_closep) int fd = open(a->path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
}

/* The content with a byte changed at each of the places. */
static void
put_changed(archive *a, const size_t *places, size_t count)
{
    memcpy(a->old, a->content, SIZE);
    for (size_t i = 0; i < count; i++)
        a->old[places[i]] ^= 0x40;
    put_old(a, a->old, SIZE);
}

static wa_status
restore(archive *a, wa_error *err)
{
    wa_place place = {.path = a->dir, .fd = -1};
    wa_layout layout = {.root = a->dir, .dir_mode = 0700, .places = &place, .count = 1};
    uint8_t zeros[8192] = {0};
    wa_expected_file items[] = {
        {wa_path_fingerprint("base", SIZE), wa_crc32c(0, a->content, SIZE)},
        {wa_path_fingerprint(WA_CONTROL_PATH, 8192), wa_crc32c(0, zeros, 8192)}};
    wa_expected expected = {items, 2, 2};
    wa_control_file control = {.there = false};
    memset(&a->counts, 0, sizeof a->counts);
    wa_restore_options o = {.repo = a->repo, .delta = true, .jobs = 1, .counts = &a->counts};
    return wa_fetch_files(&o, LABEL, &layout, &expected, NULL, &control, err);
}

static void
is_right(const archive *a)
{
    struct stat st;
    WA_CLEANUP(wa_freep) uint8_t *data = wa_malloc(SIZE);
    WA_CLEANUP(wa_closep) int fd = open(a->path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_mtim.tv_sec, MTIME);
    assert_int_equal(read(fd, data, SIZE), SIZE);
    assert_memory_equal(data, a->content, SIZE);
}

static void
restore_is_right(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    OK(restore(a, &err));
    is_right(a);
}

/* Requests and stored bytes that a restore takes which finds the file right. */
static uint64_t
base_of(archive *a, uint64_t *ret_requests)
{
    put_old(a, a->content, SIZE);
    *ret_requests = wa_store_requests(a->main, "get");
    restore_is_right(a);
    *ret_requests = wa_store_requests(a->main, "get") - *ret_requests;
    return a->counts.fetched_bytes;
}

/* ---- the tests ---- */

static void
a_right_file_stays_without_a_request(void **state)
{
    (void)state;
    for (int publish = 0; publish < 2; publish++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(publish != 0);
        uint64_t requests = 0, bytes = base_of(a, &requests);
        assert_int_equal(requests, 3); /* list, end of the pack, pg_control */
        assert_true(bytes > PACK_END && bytes < PACK_END + 4 * FRAME);
        assert_int_equal(a->counts.kept_files, 1);
        assert_int_equal(a->counts.kept_bytes, SIZE);
        assert_int_equal(a->counts.kept_block_bytes, 0);
    }
}

static void
only_the_frame_that_differs_is_fetched(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * (PARTS - 2); k++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(k % 2 == 1);
        uint64_t requests = 0, bytes = base_of(a, &requests), before;
        size_t frame = 1 + k / 2, place = begin_of(frame) + (k * 977) % FRAME;
        put_changed(a, &place, 1);
        before = wa_store_requests(a->main, "get");
        restore_is_right(a);
        assert_int_equal(a->counts.kept_files, 0);
        assert_int_equal(a->counts.kept_block_bytes, SIZE - FRAME);
        /* Without checksums in the facts, one request more for each whole frame. */
        uint64_t probes = k % 2 == 1 ? 0 : PARTS - 2;
        assert_int_equal(wa_store_requests(a->main, "get") - before, requests + 1 + probes);
        assert_true(a->counts.fetched_bytes > bytes + 4 * probes);
        assert_true(a->counts.fetched_bytes <= bytes + FRAME + 100 + 4 * probes);
    }
}

/* Their frames hold bytes of other files too: only the whole file tells whether they are right. */
static void
the_first_and_the_last_block_are_fetched_when_the_rest_is_right(void **state)
{
    (void)state;
    const size_t places[] = {0, begin_of(1) - 1, begin_of(PARTS - 1), SIZE - 1};
    for (size_t k = 0; k < 2 * WA_ARRAY_SIZE(places); k++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(k % 2 == 1);
        put_changed(a, &places[k / 2], 1);
        restore_is_right(a);
        assert_int_equal(a->counts.kept_block_bytes, (PARTS - 2) * FRAME);
    }
}

static void
neighbours_come_in_one_request(void **state)
{
    (void)state;
    WA_CLEANUP(archive_freep) archive *a = archive_new(true);
    uint64_t requests = 0, before;
    (void)base_of(a, &requests);
    const size_t places[] = {begin_of(5), begin_of(6) + 1, begin_of(7) + 2, begin_of(12)};
    put_changed(a, places, WA_ARRAY_SIZE(places));
    before = wa_store_requests(a->main, "get");
    restore_is_right(a);
    assert_int_equal(wa_store_requests(a->main, "get") - before, requests + 2);
    assert_int_equal(a->counts.kept_block_bytes, SIZE - 4 * FRAME);
}

static void
a_shorter_or_longer_file_keeps_what_is_right(void **state)
{
    (void)state;
    const size_t sizes[] = {begin_of(2), begin_of(9) - 1, begin_of(9), begin_of(PARTS - 1) + 1,
                            SIZE - 1,    SIZE + 1,        2 * SIZE};
    for (size_t k = 0; k < 2 * WA_ARRAY_SIZE(sizes); k++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(k % 2 == 1);
        size_t size = sizes[k / 2];
        fill(a->old, 2 * SIZE, 99);
        memcpy(a->old, a->content, size < SIZE ? size : SIZE);
        put_old(a, a->old, size);
        restore_is_right(a);
        /* Whole parts of it, and nothing behind its end. */
        size_t kept = a->counts.kept_block_bytes + a->counts.kept_bytes;
        assert_true(kept <= (size < SIZE ? size : SIZE));
        assert_true(kept + FRAME > (size < SIZE ? size : SIZE));
        /* Nor was a longer one right of which nothing had to be fetched. */
        assert_int_equal(a->counts.kept_files, 0);
        assert_int_equal(a->counts.kept_bytes, 0);
        if (size > SIZE)
            assert_int_equal(a->counts.kept_block_bytes, SIZE);
    }
}

/* What cp -al or pg_upgrade --link left: the other name's content is somebody's. */
static void
a_file_with_another_name_is_not_written_in_place(void **state)
{
    (void)state;
    const size_t none = 0, some[] = {begin_of(3), begin_of(9)};
    for (int k = 0; k < 6; k++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(k % 2 == 1);
        WA_CLEANUP(wa_freep) char *other = wa_path_join(a->dir, "other");
        WA_CLEANUP(wa_freep) uint8_t *data = wa_malloc(2 * SIZE);
        size_t size = k / 2 == 2 ? 2 * SIZE : SIZE; /* changed, right, too long */
        fill(a->old, 2 * SIZE, 99);
        put_changed(a, k / 2 == 0 ? some : &none, k / 2 == 0 ? 2 : 0);
        put_old(a, a->old, size);
        assert_int_equal(link(a->path, other), 0);
        restore_is_right(a);
        WA_CLEANUP(wa_closep) int fd = open(other, O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(read(fd, data, 2 * SIZE), size);
        assert_memory_equal(data, a->old, size);
        assert_int_equal(unlink(other), 0);
        assert_int_equal(a->counts.kept_block_bytes, 0);
        assert_int_equal(a->counts.kept_files, k / 2 == 1);
    }
}

static void
an_empty_or_absent_file_is_written_whole(void **state)
{
    (void)state;
    WA_CLEANUP(archive_freep) archive *a = archive_new(true);
    put_old(a, "", 0);
    restore_is_right(a);
    assert_int_equal(unlink(a->path), 0);
    restore_is_right(a);
    assert_int_equal(a->counts.kept_block_bytes + a->counts.kept_bytes, 0);
}

/* A hole reads as zeros: that is right where the backup has zeros, and nowhere else. */
static void
holes_are_compared_as_zeros(void **state)
{
    (void)state;
    WA_CLEANUP(archive_freep) archive *a = wa_malloc(sizeof *a);
    archive_open_with(a, NULL);
    memset(a->content + begin_of(4), 0, 8 * FRAME);
    put_files(a, true);
    put_old(a, a->content, begin_of(2));
    assert_int_equal(truncate(a->path, SIZE), 0);
    restore_is_right(a);
    assert_true(a->counts.kept_block_bytes >= begin_of(2) + 7 * FRAME);
    assert_true(a->counts.kept_block_bytes <= begin_of(2) + 8 * FRAME);
}

/* As a crash leaves it: some sectors of a block are new, others old. */
static void
a_torn_block_is_fetched(void **state)
{
    (void)state;
    WA_CLEANUP(archive_freep) archive *a = archive_new(true);
    memcpy(a->old, a->content, SIZE);
    for (size_t i = 512; i < FRAME; i += 1024)
        memset(a->old + begin_of(3) + i, 0, 512);
    put_old(a, a->old, SIZE);
    restore_is_right(a);
    assert_int_equal(a->counts.kept_block_bytes, SIZE - FRAME);
}

/* The n-th request fails, for every n: whatever that leaves, the next run completes. */
static void
an_interrupted_restore_is_completed(void **state)
{
    (void)state;
    const size_t places[] = {0, begin_of(3), begin_of(4), begin_of(9), begin_of(14), SIZE - 1};
    for (int publish = 0; publish < 2; publish++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(publish != 0);
        unsigned failed = 0;
        for (unsigned n = 1;; n++) {
            wa_error err = WA_ERROR_INIT;
            put_changed(a, places, WA_ARRAY_SIZE(places));
            wa_store_fault_set(a->main, "get", n, 0, WA_FAULT_FAIL);
            wa_status status = restore(a, &err);
            wa_store_fault_set(a->main, "get", 0, 0, WA_FAULT_FAIL);
            if (status == WA_OK)
                break;
            failed++;
            restore_is_right(a);
            assert_true(a->counts.kept_block_bytes + a->counts.kept_bytes > 0);
        }
        is_right(a);
        assert_true(failed > 6);
    }
}

static uint32_t
sum_of(const uint8_t *frame)
{
    WA_CLEANUP(wa_frame_sum_freep) wa_frame_sum *sum = wa_frame_sum_new();
    wa_frame_sum_update(sum, frame, FRAME);
    return wa_frame_sum_get(sum);
}

/* Two frames that differ in their first four bytes and have one checksum: of 2^16 or some more one
 * finds two. */
static void
find_collision(uint8_t *frame, uint32_t *ret_one, uint32_t *ret_other)
{
    enum { SLOTS = 1 << 20 };
    WA_CLEANUP(wa_freep) uint32_t *sums = wa_calloc(SLOTS, sizeof *sums);
    WA_CLEANUP(wa_freep) uint32_t *numbers = wa_calloc(SLOTS, sizeof *numbers);
    for (uint32_t n = 1; n < SLOTS / 2; n++) {
        memcpy(frame, &n, sizeof n);
        uint32_t sum = sum_of(frame), at = sum % SLOTS;
        for (; numbers[at] != 0; at = (at + 1) % SLOTS)
            if (sums[at] == sum) {
                *ret_one = numbers[at];
                *ret_other = n;
                return;
            }
        sums[at] = sum;
        numbers[at] = n;
    }
    fail_msg("no two frames of 500,000 have one checksum");
}

static void
a_collision_of_a_frames_checksum_is_found_and_the_file_fetched_whole(void **state)
{
    (void)state;
    for (int publish = 0; publish < 2; publish++) {
        WA_CLEANUP(archive_freep) archive *a = wa_malloc(sizeof *a);
        uint32_t one = 0, other = 0;
        archive_open_with(a, NULL);
        find_collision(a->content + begin_of(6), &one, &other);
        memcpy(a->content + begin_of(6), &one, sizeof one);
        put_files(a, publish != 0);
        memcpy(a->old, a->content, SIZE);
        memcpy(a->old + begin_of(6), &other, sizeof other);
        assert_memory_not_equal(a->old, a->content, SIZE);
        assert_int_equal(sum_of(a->old + begin_of(6)), sum_of(a->content + begin_of(6)));
        put_old(a, a->old, SIZE);
        restore_is_right(a);
        assert_int_equal(a->counts.kept_block_bytes + a->counts.kept_bytes, 0);
    }
}

static void
a_mirror_gives_what_the_main_repository_cannot(void **state)
{
    (void)state;
    WA_CLEANUP(archive_freep) archive *a = wa_malloc(sizeof *a);
    archive_open_with(a, wa_store_mem_new());
    put_files(a, true);
    const size_t places[] = {begin_of(3), begin_of(9)};
    for (unsigned n = 1; n <= 5; n++) {
        uint64_t served = wa_store_mirror_served(a->store);
        put_changed(a, places, WA_ARRAY_SIZE(places));
        wa_store_fault_set(a->main, "get", n, 0, n % 2 == 1 ? WA_FAULT_ROT : WA_FAULT_TEAR);
        restore_is_right(a);
        assert_int_equal(a->counts.kept_block_bytes, SIZE - 2 * FRAME);
        assert_true(wa_store_mirror_served(a->store) > served);
    }
}

/* ---- what a restore as a whole doesn't show ---- */

static size_t bytes_read;

static ssize_t
counting_read(int fd, void *buffer, size_t len, off_t offset)
{
    ssize_t n = pread(fd, buffer, len, offset);
    bytes_read += n > 0 ? (size_t)n : 0;
    return n;
}

static ssize_t
failing_read(int fd, void *buffer, size_t len, off_t offset)
{
    if (offset < (off_t)begin_of(10) || offset >= (off_t)begin_of(11))
        return pread(fd, buffer, len, offset);
    errno = EIO;
    return -1;
}

static wa_delta_found
keep(archive *a, wa_read_at_fn read_at, bool *ret_pays)
{
    wa_error err = WA_ERROR_INIT;
    wa_restore_options o = {.repo = a->repo, .counts = &a->counts};
    WA_CLEANUP(wa_frames_freep) wa_frames *frames = wa_frames_new();
    wa_pack *pack = NULL;
    wa_unit_file file = {.path = a->path,
                         .size = SIZE,
                         .offset = BEFORE,
                         .mode = 0600,
                         .crc = wa_crc32c(0, a->content, SIZE),
                         .mtime = MTIME};
    wa_delta_found found;
    OK(wa_pack_open(&o, LABEL, 1, &pack, &err));
    wa_delta_job job = {frames, pack, &file, a->path, read_at};
    *ret_pays = wa_delta_blocks_pay(&job);
    OK(wa_delta_keep(&job, &found, &err));
    wa_pack_release(pack);
    return found;
}

static void
a_file_that_cannot_be_read_is_written_whole(void **state)
{
    (void)state;
    for (int publish = 0; publish < 2; publish++) {
        bool pays = false;
        WA_CLEANUP(archive_freep) archive *a = archive_new(publish != 0);
        const size_t place = begin_of(3);
        put_changed(a, &place, 1);
        wa_delta_found found = keep(a, failing_read, &pays);
        assert_true(pays);
        assert_false(found.done);
        assert_int_equal(found.kept, 0);
    }
}

/* One that has the backup's time is looked at as a whole, since it is probably right; another one
 * block by block. A wrong guess costs time only. */
static void
a_file_is_read_once_where_its_time_tells_what_to_expect(void **state)
{
    (void)state;
    struct timespec times[2] = {{.tv_sec = MTIME}, {.tv_sec = MTIME}};
    for (int k = 0; k < 4; k++) {
        bool pays = false, changed = k % 2 == 1, as_then = k / 2 == 1;
        WA_CLEANUP(archive_freep) archive *a = archive_new(true);
        const size_t place = begin_of(3);
        put_changed(a, &place, changed);
        if (as_then)
            assert_int_equal(utimensat(AT_FDCWD, a->path, times, 0), 0);
        bytes_read = 0;
        assert_true(keep(a, counting_read, &pays).done);
        is_right(a);
        assert_int_equal(bytes_read, changed && as_then ? 2 * SIZE : SIZE);
    }
}

static void
of_a_file_that_is_another_one_little_is_read(void **state)
{
    (void)state;
    bool pays = false;
    WA_CLEANUP(archive_freep) archive *a = archive_new(true);
    fill(a->old, SIZE, 1234);
    put_old(a, a->old, SIZE);
    bytes_read = 0;
    assert_false(keep(a, counting_read, &pays).done);
    assert_true(bytes_read >= 4 * FRAME && bytes_read < SIZE / 2);
    restore_is_right(a);
    assert_int_equal(a->counts.kept_block_bytes, 0);
}

/* At most as much again is fetched in vain as differs. */
static void
behind_many_differences_what_is_right_is_found_again(void **state)
{
    (void)state;
    for (size_t differ = 1; differ < PARTS - 2; differ++) {
        WA_CLEANUP(archive_freep) archive *a = archive_new(true);
        memcpy(a->old, a->content, SIZE);
        for (size_t k = 1; k <= differ; k++)
            a->old[begin_of(k) + k] ^= 1;
        put_old(a, a->old, SIZE);
        restore_is_right(a);
        uint64_t fetched = SIZE - a->counts.kept_block_bytes;
        assert_true(fetched >= differ * FRAME);
        if (2 * differ + 2 < PARTS)
            assert_true(fetched <= 2 * differ * FRAME);
    }
}

static void
checksums_are_asked_for_over_the_network_only_where_frames_are_large(void **state)
{
    (void)state;
    for (int publish = 0; publish < 2; publish++) {
        bool pays = false;
        WA_CLEANUP(archive_freep) archive *a = archive_new(publish != 0);
        const size_t place = begin_of(3);
        put_changed(a, &place, 1);
        ((wa_store_traits *)(uintptr_t)wa_store_get_traits(a->store))->scheme = "s3";
        wa_delta_found found = keep(a, pread, &pays);
        assert_int_equal(pays, publish);
        assert_int_equal(found.done, publish);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_file_stays_without_a_request),
        cmocka_unit_test(only_the_frame_that_differs_is_fetched),
        cmocka_unit_test(the_first_and_the_last_block_are_fetched_when_the_rest_is_right),
        cmocka_unit_test(neighbours_come_in_one_request),
        cmocka_unit_test(a_shorter_or_longer_file_keeps_what_is_right),
        cmocka_unit_test(a_file_with_another_name_is_not_written_in_place),
        cmocka_unit_test(an_empty_or_absent_file_is_written_whole),
        cmocka_unit_test(holes_are_compared_as_zeros),
        cmocka_unit_test(a_torn_block_is_fetched),
        cmocka_unit_test(an_interrupted_restore_is_completed),
        cmocka_unit_test(a_collision_of_a_frames_checksum_is_found_and_the_file_fetched_whole),
        cmocka_unit_test(a_mirror_gives_what_the_main_repository_cannot),
        cmocka_unit_test(a_file_that_cannot_be_read_is_written_whole),
        cmocka_unit_test(a_file_is_read_once_where_its_time_tells_what_to_expect),
        cmocka_unit_test(of_a_file_that_is_another_one_little_is_read),
        cmocka_unit_test(behind_many_differences_what_is_right_is_found_again),
        cmocka_unit_test(checksums_are_asked_for_over_the_network_only_where_frames_are_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

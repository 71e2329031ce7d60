/*
 * test_packer.c - files into packs and back, over the store in memory.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backup_fixture.h"

#include <string.h>

typedef struct fixture {
    wa_repo *repo;
    wa_backup_info *info;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    OK(make_repo(&f->repo, &f->err));
    f->info = make_info();
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_backup_info_free(f->info);
    wa_repo_free(f->repo);
    wa_freep(&f);
    return 0;
}

static void
add_file(fixture *f, wa_packer *p, const char *path, const void *data, size_t len)
{
    wa_tar_entry entry = {
        .path = path, .type = WA_TAR_FILE, .size = len, .mode = 0600, .mtime = 1700000000};
    OK(wa_packer_begin_file(p, &entry, path, &f->err));
    for (size_t at = 0; at < len; at += 1000)
        OK(wa_packer_write(p, (const char *)data + at, len - at < 1000 ? len - at : 1000, &f->err));
    OK(wa_packer_end_file(p, &f->err));
}

typedef struct seen {
    fixture *f;
    size_t count;
    wa_container *pack;
    const char *const *contents;
} seen;

static wa_status
compare_file(void *arg, const wa_backup_file *file, wa_error *err)
{
    seen *s = arg;
    if (file->type != 'f')
        return WA_OK;
    const char *expected = s->contents[s->count++];
    assert_int_equal(file->size, strlen(expected));
    WA_CLEANUP(wa_decoder_freep) wa_decoder *decoder = wa_decoder_new();
    char got[8192];
    WA_TRY(wa_container_read(s->pack, decoder, file->offset, got, file->size, err));
    assert_memory_equal(got, expected, file->size);
    return WA_OK;
}

static void
a_file_is_found_by_its_offset_in_the_pack(void **state)
{
    fixture *f = *state;
    char big[5001];
    memset(big, 'x', 5000);
    big[5000] = '\0';
    const char *const contents[] = {"hello", "", big};
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
    add_file(f, p, "PG_VERSION", contents[0], 5);
    wa_tar_entry directory = {.path = "base", .type = WA_TAR_DIRECTORY, .mode = 0700};
    OK(wa_packer_add_other(p, &directory, "base", &f->err));
    add_file(f, p, "base/empty", contents[1], 0);
    add_file(f, p, "base/1/16384", contents[2], 5000);
    OK(wa_packer_finish(p, NULL, NULL, &f->err));
    assert_int_equal(f->info->pack_count, 1);
    assert_int_equal(f->info->raw_bytes, 5005);
    assert_int_equal(f->info->files, 4);
    assert_int_equal(f->info->regular_files, 3); /* a directory is none */
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(f->repo, f->info->label, "pack-00001.tar.zst");
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *pack = NULL;
    OK(wa_store_ranges(wa_repo_store(f->repo), key, UINT64_MAX, &ranges, &f->err));
    OK(wa_container_open(ranges, &pack, &f->err));
    seen s = {.f = f, .pack = pack, .contents = contents};
    OK(wa_backup_files(f->repo, f->info->label, compare_file, &s, &f->err));
    assert_int_equal(s.count, 3);
}

static void
a_file_that_ends_early_is_corrupt(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
    wa_tar_entry entry = {.path = "a", .type = WA_TAR_FILE, .size = 10, .mode = 0600};
    OK(wa_packer_begin_file(p, &entry, "a", &f->err));
    OK(wa_packer_write(p, "12345", 5, &f->err));
    assert_int_equal(wa_packer_end_file(p, &f->err), WA_CORRUPT);
}

/* A manifest in PostgreSQL's format for files with CRC-32C checksums. */
static void
make_manifest(fixture *f, const char *const *paths, const char *const *contents, size_t count,
              wa_buf *out)
{
    wa_manifest_writer *w = wa_manifest_writer_new(1, 0);
    WA_CLEANUP(wa_checksummer_freep) wa_checksummer *sum = wa_checksummer_new(WA_MANIFEST_CRC32C);
    for (size_t i = 0; i < count; i++) {
        wa_manifest_file file = {.path = paths[i],
                                 .size = strlen(contents[i]),
                                 .mtime = "2026-11-23 02:14:00 GMT",
                                 .algorithm = WA_MANIFEST_CRC32C};
        wa_checksummer_reset(sum);
        wa_checksummer_update(sum, contents[i], strlen(contents[i]));
        file.checksum_len = wa_checksummer_final(sum, file.checksum);
        OK(wa_manifest_write_file(w, &file, out, &f->err));
    }
    wa_manifest_range range = {.tli = 1, .start = 0x2000028, .end = 0x2000100};
    OK(wa_manifest_write_end(w, &range, 1, out, &f->err));
    wa_manifest_writer_free(w);
}

static wa_status
check_against(fixture *f, const char *const *paths, const char *const *contents, size_t count)
{
    static const char *const sent_paths[] = {"PG_VERSION", "base/1/1"}, *const sent[] = {"15\n",
                                                                                         "data"};
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
    for (size_t i = 0; i < 2; i++)
        add_file(f, p, sent_paths[i], sent[i], strlen(sent[i]));
    OK(wa_packer_finish(p, NULL, NULL, &f->err));
    WA_CLEANUP(wa_buf_done) wa_buf manifest = WA_BUF_INIT(65536);
    make_manifest(f, paths, contents, count, &manifest);
    WA_CLEANUP(wa_manifest_check_freep) wa_manifest_check *check = NULL;
    OK(wa_manifest_check_new(f->repo, f->info->label, wa_packer_fingerprints(p), 1, &check,
                             &f->err));
    WA_TRY(wa_manifest_check_write(check, manifest.data, manifest.len, &f->err));
    wa_manifest_info info;
    uint64_t stored = 0;
    return wa_manifest_check_finish(check, &info, &stored, &f->err);
}

static void
what_was_sent_agrees_with_its_manifest(void **state)
{
    fixture *f = *state;
    OK(check_against(f, (const char *const[]){"PG_VERSION", "base/1/1"},
                     (const char *const[]){"15\n", "data"}, 2));
}

static void
another_byte_in_a_file_is_noticed(void **state)
{
    fixture *f = *state;
    assert_int_equal(check_against(f, (const char *const[]){"PG_VERSION", "base/1/1"},
                                   (const char *const[]){"15\n", "dat4"}, 2),
                     WA_CORRUPT);
    assert_non_null(strstr(f->err.message, "base/1/1"));
}

static void
a_file_that_was_not_sent_is_noticed(void **state)
{
    fixture *f = *state;
    assert_int_equal(check_against(f, (const char *const[]){"PG_VERSION", "base/1/1", "base/1/2"},
                                   (const char *const[]){"15\n", "data", "x"}, 3),
                     WA_CORRUPT);
    assert_non_null(strstr(f->err.message, "base/1/2"));
}

static void
a_file_that_the_manifest_does_not_name_is_noticed(void **state)
{
    fixture *f = *state;
    assert_int_equal(
        check_against(f, (const char *const[]){"PG_VERSION"}, (const char *const[]){"15\n"}, 1),
        WA_CORRUPT);
}

static const char *
noise(char *data, size_t len)
{
    uint64_t state = 1;
    for (size_t i = 0; i < len; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (char)(state >> 56);
    }
    return data;
}

static void
what_is_written_in_its_room_makes_the_same_pack(void **state)
{
    enum { SIZE = 9 * 1024 * 1024 + 77 };
    fixture *f = *state;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_freep) char *data = wa_malloc(SIZE);
    wa_tar_entry entry = {.path = "a", .type = WA_TAR_FILE, .size = SIZE, .mode = 0600};
    noise(data, SIZE);
    OK(wa_pool_new("compress", 2, 3, &pool, &f->err));
    for (int in_room = 0; in_room < 2; in_room++) {
        WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
        snprintf(f->info->label, sizeof f->info->label, "20261127T000000Z-F-%s",
                 in_room ? "0001" : "0000");
        OK(wa_packer_new(f->repo, f->info, pool, 1, 1, NULL, &p, &f->err));
        OK(wa_packer_begin_file(p, &entry, "a", &f->err));
        for (size_t at = 0, step = 100000; at < SIZE; at += step) {
            void *room = data + at;
            size_t left = SIZE;
            if (in_room)
                OK(wa_packer_room(p, &room, &left, &f->err));
            step = SIZE - at < step ? SIZE - at : 100000;
            step = left < step ? left : step;
            if (in_room)
                memcpy(room, data + at, step);
            OK(wa_packer_write(p, room, step, &f->err));
        }
        OK(wa_packer_end_file(p, &f->err));
        OK(wa_packer_finish(p, NULL, NULL, &f->err));
    }
    const wa_backup_pack *packs = f->info->packs;
    assert_int_equal(f->info->pack_count, 2);
    assert_string_equal(packs[0].xxh3, packs[1].xxh3);
    assert_int_equal(packs[0].stored_size, packs[1].stored_size);
}

typedef struct beside {
    fixture *f;
    size_t calls;
    wa_status fails;
} beside;

static wa_status
count_files(void *arg, const wa_backup_file *file, wa_error *err)
{
    (void)file;
    (void)err;
    ++*(size_t *)arg;
    return WA_OK;
}

static wa_status
write_beside(void *arg, wa_error *err)
{
    beside *b = arg;
    b->calls++;
    return b->fails == WA_OK ? WA_OK : wa_error_set(err, b->fails, "it failed");
}

static void
what_is_written_beside_the_last_pack_can_fail_the_backup(void **state)
{
    fixture *f = *state;
    for (int fails = 0; fails < 2; fails++) {
        WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
        snprintf(f->info->label, sizeof f->info->label, "20261127T000000Z-F-%s",
                 fails ? "0001" : "0000");
        OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
        add_file(f, p, "a", "hello", 5);
        beside b = {.f = f, .fails = fails ? WA_DENIED : WA_OK};
        assert_int_equal(wa_packer_finish(p, write_beside, &b, &f->err), b.fails);
        assert_int_equal(b.calls, 1);
        assert_string_equal(f->err.message, fails ? "it failed" : "");
        if (fails)
            continue;
        size_t files = 0;
        OK(wa_backup_files(f->repo, f->info->label, count_files, &files, &f->err));
        assert_int_equal(files, 1);
    }
}

/* Only what waits looks at the cancel. */
static void
packs_go_through_the_limit(void **state)
{
    enum { SIZE = 5 * 1024 * 1024 };
    fixture *f = *state;
    wa_cancel cancel;
    WA_CLEANUP(wa_freep) char *data = wa_malloc(SIZE);
    wa_tar_entry entry = {.path = "a", .type = WA_TAR_FILE, .size = SIZE, .mode = 0600};
    noise(data, SIZE);
    OK(wa_cancel_init(&cancel, &f->err));
    wa_cancel_trigger(&cancel);
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
    wa_packer_limit_upload(p, 1, &cancel);
    OK(wa_packer_begin_file(p, &entry, "a", &f->err));
    assert_int_equal(wa_packer_write(p, data, SIZE, &f->err), WA_CANCELLED);
    wa_cancel_done(&cancel);
}

/* All of it is in a frame that a worker has when finish is called, and is sent by the thread that
 * ends the pack. */
static void
the_last_packs_end_goes_through_the_limit(void **state)
{
    fixture *f = *state;
    wa_cancel cancel;
    WA_CLEANUP(wa_freep) char *data = wa_malloc(100000);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    noise(data, 100000);
    OK(wa_cancel_init(&cancel, &f->err));
    wa_cancel_trigger(&cancel);
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_pool_new("compress", 2, 3, &pool, &f->err));
    OK(wa_packer_new(f->repo, f->info, pool, 1, 1, NULL, &p, &f->err));
    wa_packer_limit_upload(p, 1, &cancel);
    add_file(f, p, "a", data, 100000);
    assert_int_equal(wa_packer_finish(p, NULL, NULL, &f->err), WA_CANCELLED);
    assert_int_equal(f->info->pack_count, 0);
    wa_cancel_done(&cancel);
}

typedef struct whole {
    fixture *f;
    const char *data; /* of each file: its pack's number, then the rest of this */
    size_t count;
} whole;

enum { PACKS = 4, LARGE = 9 * 1024 * 1024 + 5 };

static wa_status
compare_in_pack(void *arg, const wa_backup_file *file, wa_error *err)
{
    whole *w = arg;
    char name[32];
    assert_int_equal(file->pack, ++w->count);
    assert_int_equal(file->size, LARGE);
    snprintf(name, sizeof name, "pack-%05u.tar.zst", file->pack);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(w->f->repo, w->f->info->label, name);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *pack = NULL;
    WA_TRY(wa_store_ranges(wa_repo_store(w->f->repo), key, UINT64_MAX, &ranges, err));
    WA_TRY(wa_container_open(ranges, &pack, err));
    const wa_backup_pack *listed = &w->f->info->packs[file->pack - 1];
    assert_int_equal(listed->raw_size, wa_container_size(pack));
    assert_int_equal(listed->stored_size, ranges->size);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *decoder = wa_decoder_new();
    WA_CLEANUP(wa_freep) char *got = wa_malloc(LARGE);
    WA_TRY(wa_container_read(pack, decoder, file->offset, got, LARGE, err));
    assert_int_equal(got[0], file->pack);
    assert_memory_equal(got + 1, w->data + 1, LARGE - 1);
    return WA_OK;
}

/* Each into a pack of its own, which is closed while the next one is filled. */
static wa_status
pack_files(fixture *f, wa_pool *pool, char *data)
{
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    wa_tar_entry entry = {.path = "a", .type = WA_TAR_FILE, .size = LARGE, .mode = 0600};
    WA_TRY(wa_packer_new(f->repo, f->info, pool, 1, 1, NULL, &p, &f->err));
    for (int i = 0; i < PACKS; i++) {
        data[0] = (char)(i + 1);
        WA_TRY(wa_packer_begin_file(p, &entry, "a", &f->err));
        WA_TRY(wa_packer_write(p, data, LARGE, &f->err));
        WA_TRY(wa_packer_end_file(p, &f->err));
        if (i + 1 < PACKS) /* finish closes the last one */
            WA_TRY(wa_packer_close_pack(p, &f->err));
    }
    return wa_packer_finish(p, NULL, NULL, &f->err);
}

static void
a_pack_is_closed_while_the_next_one_is_filled(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *data = wa_malloc(LARGE);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    whole w = {f, noise(data, LARGE), 0};
    OK(wa_pool_new("compress", 2, 3, &pool, &f->err));
    OK(pack_files(f, pool, data));
    assert_int_equal(f->info->pack_count, PACKS);
    OK(wa_backup_files(f->repo, f->info->label, compare_in_pack, &w, &f->err));
    assert_int_equal(w.count, PACKS);
}

/* What S3 suggests. */
static void
suggest_parts(fixture *f, uint64_t size)
{
    wa_store_traits *traits =
        (wa_store_traits *)(uintptr_t)wa_store_get_traits(wa_repo_store(f->repo));
    traits->part_size = size;
}

static uint64_t
puts_of(const fixture *f)
{
    return wa_store_requests(wa_repo_store(f->repo), "put");
}

/* Of what does not get smaller. */
static void
begin_large(fixture *f, wa_packer *p, uint64_t size)
{
    WA_CLEANUP(wa_freep) char *data = wa_malloc(LARGE);
    wa_tar_entry entry = {.path = "a", .type = WA_TAR_FILE, .size = size, .mode = 0600};
    OK(wa_packer_begin_file(p, &entry, "a", &f->err));
    OK(wa_packer_write(p, noise(data, LARGE), LARGE, &f->err));
}

/* Of a backup with one pack, to a store that suggests such parts. */
static uint64_t
puts_with_parts(fixture *f, size_t suggested)
{
    suggest_parts(f, suggested);
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    OK(wa_packer_new(f->repo, f->info, NULL, 1, 1, NULL, &p, &f->err));
    uint64_t before = puts_of(f);
    begin_large(f, p, LARGE);
    OK(wa_packer_end_file(p, &f->err));
    OK(wa_packer_finish(p, NULL, NULL, &f->err));
    return puts_of(f) - before;
}

static void
a_pack_goes_up_in_smaller_parts_than_the_store_suggests(void **state)
{
    /* Begun, two parts, completed; the list of files. */
    assert_int_equal(puts_with_parts(*state, 16u << 20), 5);
}

static void
a_pack_goes_up_in_the_parts_of_a_store_that_likes_small_ones(void **state)
{
    assert_int_equal(puts_with_parts(*state, 3u << 20), 7);
}

static void
a_file_of_more_than_ten_thousand_small_parts_gets_large_ones(void **state)
{
    fixture *f = *state;
    static const struct {
        uint64_t size, puts; /* begun, the first part */
    } files[] = {{UINT64_C(60) << 30, 2}, {UINT64_C(80) << 30, 0}};
    suggest_parts(f, 16u << 20);
    for (size_t i = 0; i < WA_ARRAY_SIZE(files); i++) {
        WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
        OK(wa_packer_new(f->repo, f->info, NULL, 1, 0, NULL, &p, &f->err));
        uint64_t before = puts_of(f);
        begin_large(f, p, files[i].size);
        assert_int_equal(puts_of(f) - before, files[i].puts);
    }
}

/* What is in info is in the store. */
static void
the_next_pack_does_not_wait_for_the_end_of_the_one_before(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_packer_freep) wa_packer *p = NULL;
    suggest_parts(f, 16u << 20);
    OK(wa_pool_new("compress", 2, 3, &pool, &f->err));
    OK(wa_packer_new(f->repo, f->info, pool, 1, 2, NULL, &p, &f->err));
    begin_large(f, p, LARGE);
    OK(wa_packer_end_file(p, &f->err));
    OK(wa_packer_close_pack(p, &f->err));
    assert_int_equal(f->info->pack_count, 0);
    OK(wa_packer_finish(p, NULL, NULL, &f->err));
    assert_int_equal(f->info->pack_count, 1);
}

/* A store that fails on demand, with an archive. */
static wa_store *
begin_faulty(wa_repo **ret, wa_error *err)
{
    wa_store *fault = wa_store_fault_new(wa_store_mem_new());
    assert_int_equal(make_repo_of(fault, ret, err), WA_OK);
    return fault;
}

/* Whichever call to the store it is that fails: those of the packs, and the one that puts the list
 * of files. */
static void
an_object_that_is_not_stored_fails_the_backup(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *kind;
        unsigned calls;
    } kinds[] = {
        {"upload_begin", PACKS}, {"upload_part", PACKS}, {"upload_commit", PACKS}, {"put", 1}};
    WA_CLEANUP(wa_freep) char *data = wa_malloc(LARGE);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    (void)noise(data, LARGE);
    OK(wa_pool_new("compress", 2, 3, &pool, &f->err));
    wa_store *fault = begin_faulty(&repo, &f->err);
    for (size_t k = 0; k < WA_ARRAY_SIZE(kinds); k++) {
        for (unsigned n = 1; n <= kinds[k].calls; n++) {
            fixture here = {.repo = repo, .info = make_info(), .err = WA_ERROR_INIT};
            wa_store_fault_set(fault, kinds[k].kind, n, 0, WA_FAULT_DENY);
            wa_status status = pack_files(&here, pool, data);
            size_t packs = here.info->pack_count;
            wa_backup_info_free(here.info);
            assert_int_equal(wa_store_fault_hits(fault), 1);
            assert_int_equal(status, WA_DENIED);
            assert_true(wa_str_eq(kinds[k].kind, "put") ? packs == PACKS : packs < PACKS);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_in_its_room_makes_the_same_pack, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(packs_go_through_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_packs_end_goes_through_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_written_beside_the_last_pack_can_fail_the_backup,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_pack_is_closed_while_the_next_one_is_filled, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_pack_goes_up_in_smaller_parts_than_the_store_suggests,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_pack_goes_up_in_the_parts_of_a_store_that_likes_small_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_file_of_more_than_ten_thousand_small_parts_gets_large_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_pack_does_not_wait_for_the_end_of_the_one_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_object_that_is_not_stored_fails_the_backup, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_is_found_by_its_offset_in_the_pack, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_ends_early_is_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_sent_agrees_with_its_manifest, setup, teardown),
        cmocka_unit_test_setup_teardown(another_byte_in_a_file_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_was_not_sent_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_the_manifest_does_not_name_is_noticed, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

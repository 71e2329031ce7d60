/*
 * test_local_file.c - files of a data directory through readers into a pack: small ones side by
 * side, large ones straight into the frames, pages across a frame's end.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backup_fixture.h"
#include "local_internal.h"
#include "page_cache.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/pg/page.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 8192u
#define NEVER (3600u * 1000)

typedef struct fixture {
    char dir[64];
    wa_repo *repo;
    wa_pool *pool;
    wa_backup_options options;
    wa_local local;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/walagent-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    OK(make_repo(&f->repo, &f->err));
    OK(wa_pool_new("compress", 2, 3, &f->pool, &f->err));
    f->options = (wa_backup_options){.repo = f->repo, .data_dir = f->dir, .jobs = 3};
    wa_local *l = &f->local;
    l->options = &f->options;
    l->info = make_info();
    l->info->start_lsn = 2000;
    l->control.block_size = PAGE;
    l->control.relation_segment_blocks = 131072;
    l->check_pages = true;
    l->looked = wa_mono_now() + NEVER; /* there is no session */
    wa_buf_init(&l->damage.places, 4096);
    wa_mutex_init(&l->damage.mutex);
    OK(wa_packer_new(f->repo, l->info, f->pool, 1, 1, NULL, &l->packer, &f->err));
    OK(wa_local_manifest_new(f->repo, l->info, 1, &l->manifest, &f->err));
    OK(wa_local_pipe_new(l, &l->pipe, &f->err));
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_error ignored = WA_ERROR_INIT;
    wa_local_pipe_free(f->local.pipe);
    wa_local_manifest_free(f->local.manifest);
    wa_packer_free(f->local.packer);
    wa_buf_done(&f->local.damage.places);
    wa_mutex_done(&f->local.damage.mutex);
    wa_backup_info_free(f->local.info);
    wa_pool_free(f->pool);
    wa_repo_free(f->repo);
    if (wa_remove_tree(f->dir, &ignored) != WA_OK)
        print_message("%s\n", ignored.message);
    wa_freep(&f);
    return 0;
}

static uint8_t *
content_of(size_t size, unsigned seed)
{
    uint8_t *content = wa_malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        content[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
    return content;
}

static void
make_file(fixture *f, const char *path, const uint8_t *content, size_t size)
{
    char full[128];
    snprintf(full, sizeof full, "%s/%s", f->dir, path);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(full);
    OK(wa_mkdir_p(dir, 0700, &f->err));
    WA_CLEANUP(wa_closep) int fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    OK(wa_pwrite_all(fd, content, size, 0, full, &f->err));
}

typedef struct expectation {
    const size_t *sizes;
    size_t count;
    wa_container *pack;
} expectation;

static wa_status
compare_file(void *arg, const wa_backup_file *file, wa_error *err)
{
    expectation *e = arg;
    size_t i = e->count++;
    assert_int_equal(file->type, 'f');
    assert_int_equal(file->size, e->sizes[i]);
    WA_CLEANUP(wa_freep) uint8_t *expected = content_of(e->sizes[i], (unsigned)i);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(e->sizes[i] + 1);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *decoder = wa_decoder_new();
    WA_TRY(wa_container_read(e->pack, decoder, file->offset, got, file->size, err));
    assert_memory_equal(got, expected, file->size);
    return WA_OK;
}

static void
files_of_any_size_arrive_in_order_and_as_they_are(void **state)
{
    static const size_t sizes[] = {100,      0,       65536,    65537,    1048576, 1048577,
                                   2097152,  2097153, 4194304,  4194304,  524288,  4193280,
                                   4195328,  4161536, 9437307,  1,        2097184, 12582912,
                                   13000001, 31,      3000000,  3000000,  3000000, 200000,
                                   16777216, 7,       37748736, 41943041, 33554431};
    fixture *f = *state;
    wa_local *l = &f->local;
    for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++) {
        char path[32];
        snprintf(path, sizeof path, "pg_xact/%04zu", i);
        WA_CLEANUP(wa_freep) uint8_t *content = content_of(sizes[i], (unsigned)i);
        make_file(f, path, content, sizes[i]);
        OK(wa_local_copy_file(l, "pg_xact", path, &f->err));
    }
    OK(wa_local_pipe_drain(l->pipe, &f->err));
    OK(wa_packer_finish(l->packer, NULL, NULL, &f->err));
    OK(wa_local_damage(l, &f->err));
    assert_int_equal(l->info->pack_count, 1);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(f->repo, l->info->label, "pack-00001.tar.zst");
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *pack = NULL;
    OK(wa_store_ranges(wa_repo_store(f->repo), key, UINT64_MAX, &ranges, &f->err));
    OK(wa_container_open(ranges, &pack, &f->err));
    expectation e = {.sizes = sizes, .pack = pack};
    OK(wa_backup_files(f->repo, l->info->label, compare_file, &e, &f->err));
    assert_int_equal(e.count, WA_ARRAY_SIZE(sizes));
}

static void
the_checksum_of_a_file_of_many_frames_is_that_of_its_bytes(void **state)
{
    enum { SIZE = 41234567 };
    fixture *f = *state;
    WA_CLEANUP(wa_freep) uint8_t *content = content_of(SIZE, 3);
    make_file(f, "pg_xact/0000", content, SIZE);
    OK(wa_local_copy_file(&f->local, "pg_xact", "pg_xact/0000", &f->err));
    OK(wa_local_pipe_drain(f->local.pipe, &f->err));
    assert_int_equal(wa_packer_last_crc(f->local.packer), wa_crc32c(0, content, SIZE));
}

/* Where there are pieces at the readers a directory's entry must not come between a file's. */
static void
a_directory_comes_between_files_never_into_one(void **state)
{
    static const size_t sizes[] = {1490944, 1048577, 1048576, 5000000};
    fixture *f = *state;
    wa_local *l = &f->local;
    wa_tar_entry directory = {.path = "d", .type = WA_TAR_DIRECTORY, .mode = 0700};
    for (unsigned i = 0; i < 8 * WA_ARRAY_SIZE(sizes); i++) {
        for (unsigned k = 0; k <= i % 8; k++) {
            char path[32];
            snprintf(path, sizeof path, "pg_xact/%04u.%u", i, k);
            size_t size = k == 0 ? sizes[i / 8] : 10;
            WA_CLEANUP(wa_freep) uint8_t *content = content_of(size, i);
            make_file(f, path, content, size);
            OK(wa_local_copy_file(l, "pg_xact", path, &f->err));
        }
        OK(wa_packer_add_other(l->packer, &directory, "d", &f->err));
    }
    OK(wa_local_pipe_drain(l->pipe, &f->err));
    OK(wa_packer_finish(l->packer, NULL, NULL, &f->err));
}

/* Pages lie across the ends of frames. */
static void
check_pages_of_file(fixture *f, uint32_t pages)
{
    WA_CLEANUP(wa_freep) uint8_t *content = wa_calloc(pages, PAGE);
    for (uint32_t i = 0; i < pages; i++) {
        uint8_t *page = content + i * PAGE;
        memset(page, (int)(i % 255) + 1, PAGE);
        wa_put_u64le(page, 0);
        wa_put_u32le(page + 4, 1000);
        wa_put_u16le(page + 8, wa_page_checksum(page, PAGE, i));
    }
    make_file(f, "base/5/16384", content, (size_t)pages * PAGE);
    OK(wa_local_copy_file(&f->local, "base/5", "base/5/16384", &f->err));
    OK(wa_local_pipe_drain(f->local.pipe, &f->err));
    OK(wa_local_damage(&f->local, &f->err));
    for (uint32_t i = 0; i < pages; i++)
        content[i * PAGE + 4000]++;
    make_file(f, "base/5/16385", content, (size_t)pages * PAGE);
    OK(wa_local_copy_file(&f->local, "base/5", "base/5/16385", &f->err));
    OK(wa_local_pipe_drain(f->local.pipe, &f->err));
    assert_int_equal(f->local.damage.count, pages);
}

static void
every_page_of_a_large_file_is_checked(void **state)
{
    check_pages_of_file(*state, 1152);
}

static void
every_page_of_a_file_of_many_frames_is_checked(void **state)
{
    check_pages_of_file(*state, 4000);
}

/* Behind an empty file's end there is nothing to be read. */
static void
a_frame_that_can_not_be_read_ends_the_copy_with_the_reason(void **state)
{
    enum { SIZE = 64 << 20, HOLE = 1 << 20 };
    fixture *f = *state;
    wa_local *l = &f->local;
    wa_tar_entry entry = {.path = "16384", .type = WA_TAR_FILE, .size = SIZE, .mode = 0600};
    char path[128];
    WA_CLEANUP(wa_closep) int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    uint8_t *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(map != MAP_FAILED);
    make_file(f, "empty", (const uint8_t *)"", 0);
    snprintf(path, sizeof path, "%s/empty", f->dir);
    WA_CLEANUP(wa_closep) int empty = open(path, O_RDWR | O_CLOEXEC);
    assert_true(empty >= 0 && mmap(map + HOLE, HOLE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                   empty, 0) == map + HOLE);
    wa_local_frames *frames = wa_local_frames_new(l);
    wa_local_source source = {.path = "16384", .fd = fd};
    wa_local_cache cache = {.fd = fd, .size = SIZE};
    uint64_t offset = (uint64_t)(uintptr_t)map;
    OK(wa_packer_begin_file(l->packer, &entry, "16384", &f->err));
    wa_status status = wa_local_frames_take(frames, &source, &cache, &offset, &f->err);
    if (status == WA_OK) /* it may be heard of at once */
        status = wa_local_frames_finish(frames, &f->err);
    assert_int_equal(status, WA_IO);
    assert_non_null(strstr(f->err.message, "could not read file \"16384\""));
    wa_local_frames_abandon(frames);
    wa_local_frames_free(frames);
    munmap(map, SIZE);
}

/* Their file may be closed then, and who leaks or reads on is seen by the sanitizer. */
static void
frames_that_are_abandoned_are_not_read_any_more(void **state)
{
    enum { SIZE = 64 << 20 };
    fixture *f = *state;
    wa_local *l = &f->local;
    wa_tar_entry entry = {.path = "16384", .type = WA_TAR_FILE, .size = SIZE, .mode = 0600};
    make_file(f, "16384", (const uint8_t *)"", 0);
    WA_CLEANUP(wa_freep) char *path = wa_format("%s/16384", f->dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    wa_local_frames *frames = wa_local_frames_new(l);
    wa_local_source *source = wa_calloc(1, sizeof *source);
    wa_local_cache cache = {.fd = fd, .size = SIZE};
    uint64_t offset = 0;
    *source = (wa_local_source){.path = "16384", .fd = fd};
    OK(wa_packer_begin_file(l->packer, &entry, "16384", &f->err));
    for (int i = 0; i < 3; i++)
        OK(wa_local_frames_take(frames, source, &cache, &offset, &f->err));
    wa_local_frames_abandon(frames);
    wa_local_frames_free(frames);
    wa_freep(&source);
    close(fd);
}

/* How often the limit is asked, and how soon it stops, must not depend on what a frame holds. */
static void
a_limited_copy_reads_by_small_pieces(void **state)
{
    fixture *f = *state;
    wa_local_frames *frames = wa_local_frames_new(&f->local);
    assert_true(wa_local_frames_can_take(frames, 64 << 20));
    assert_false(wa_local_frames_can_take(frames, 2 << 20));
    f->local.reading.rate = 1 << 20;
    assert_false(wa_local_frames_can_take(frames, 64 << 20));
    wa_local_frames_free(frames);
}

static void
only_what_somebody_had_read_stays_in_the_page_cache(void **state)
{
    enum { MIB = 1024 * 1024, SIZE = 120 * MIB, READ = 100 * MIB };
    fixture *f = *state;
    char full[128];
    make_file(f, "pg_xact/0000", (const uint8_t *)"", 0);
    snprintf(full, sizeof full, "%s/pg_xact/0000", f->dir);
    WA_CLEANUP(wa_closep) int fd = open(full, O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_int_equal(pwrite(fd, "x", 1, READ), 1);
    assert_true(page_is_in_cache(fd, READ));
    OK(wa_local_copy_file(&f->local, "pg_xact", "pg_xact/0000", &f->err));
    OK(wa_local_pipe_drain(f->local.pipe, &f->err));
    assert_true(page_is_in_cache(fd, READ));
    assert_in_range(pages_in_cache(fd, SIZE) * (size_t)sysconf(_SC_PAGESIZE), 0, 4 * MIB);
}

/* Whatever is at the readers then ends with the pipe (checked for leaks). */
static void
a_cancelled_copy_leaves_nothing(void **state)
{
    fixture *f = *state;
    wa_cancel cancel;
    OK(wa_cancel_init(&cancel, &f->err));
    WA_CLEANUP(wa_freep) uint8_t *content = content_of(40000000, 0);
    make_file(f, "pg_xact/0000", content, 100000);
    make_file(f, "pg_xact/0001", content, 40000000);
    f->options.cancel = &cancel;
    OK(wa_local_copy_file(&f->local, "pg_xact", "pg_xact/0000", &f->err));
    wa_cancel_trigger(&cancel);
    assert_int_equal(wa_local_copy_file(&f->local, "pg_xact", "pg_xact/0001", &f->err),
                     WA_CANCELLED);
    f->options.cancel = NULL;
    wa_cancel_done(&cancel);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_of_any_size_arrive_in_order_and_as_they_are, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_checksum_of_a_file_of_many_frames_is_that_of_its_bytes,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_comes_between_files_never_into_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_page_of_a_large_file_is_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(every_page_of_a_file_of_many_frames_is_checked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_frame_that_can_not_be_read_ends_the_copy_with_the_reason,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(frames_that_are_abandoned_are_not_read_any_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_limited_copy_reads_by_small_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(only_what_somebody_had_read_stays_in_the_page_cache, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_copy_leaves_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

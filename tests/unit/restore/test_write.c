/*
 * test_write.c - a restored file's bytes, past the page cache and through it.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "restore_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAME (4u * 1024 * 1024)
#define BLOCK 4096u

/* A file that is being written, and what shall be in it. */
typedef struct fixture {
    char path[32];
    int fd;
    size_t size;
    uint8_t *content, *memory; /* memory: a frame's, on a page's border */
    wa_writer w;
    wa_error err;
} fixture;

static void
set_up(fixture *f, size_t size)
{
    *f = (fixture){.path = "/tmp/walagent-write-XXXXXX", .size = size};
    f->fd = mkstemp(f->path);
    assert_true(f->fd >= 0);
    f->content = wa_malloc(size);
    f->memory = wa_malloc_large(FRAME);
    for (size_t i = 0; i < size; i++)
        f->content[i] = (uint8_t)(i * 2654435761u >> 13 | 0x80);
    assert_int_equal(wa_writer_open(&f->w, f->fd, f->path, size, &f->err), WA_OK);
}

static void
tear_down(fixture *f)
{
    wa_writer_close(&f->w);
    wa_closep(&f->fd);
    assert_int_equal(unlink(f->path), 0);
    wa_freep(&f->content);
    wa_freep(&f->memory);
}

/* As from a frame whose bytes of this file begin at `at`. */
static wa_status
put(fixture *f, size_t position, size_t at, size_t len)
{
    memcpy(f->memory + at, f->content + position, len);
    return wa_writer_put(&f->w, position, f->memory + at, len, &f->err);
}

static void
assert_written(const fixture *f)
{
    struct stat st;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) uint8_t *found = wa_malloc(f->size);
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(st.st_size, f->size);
    assert_int_equal(wa_pread_all(f->fd, found, f->size, 0, f->path, &err), WA_OK);
    assert_memory_equal(found, f->content, f->size);
}

/* In frames, with `first` bytes in the first one, which end it. */
static void
put_all(fixture *f, size_t first)
{
    size_t position = 0, at = FRAME - first;
    while (position < f->size) {
        size_t room = FRAME - at, left = f->size - position, len = left < room ? left : room;
        assert_int_equal(put(f, position, at, len), WA_OK);
        position += len;
        at = 0;
    }
}

static void
a_file_has_its_bytes_wherever_frames_cut_it(void **state)
{
    (void)state;
    static const size_t firsts[] = {FRAME, FRAME - 512, BLOCK, 66u * 1024, 1, FRAME - 513};
    static const size_t sizes[] = {FRAME,        3 * FRAME, 2 * FRAME + 8192, FRAME + 1,
                                   9u << 20,     1u << 20,  (1u << 20) + 511, 8192,
                                   FRAME + 70000};
    for (size_t i = 0; i < WA_ARRAY_SIZE(firsts); i++)
        for (size_t k = 0; k < WA_ARRAY_SIZE(sizes); k++) {
            fixture f;
            set_up(&f, sizes[k]);
            put_all(&f, firsts[i]);
            assert_written(&f);
            tear_down(&f);
        }
}

static bool
goes_past_the_cache(const fixture *f)
{
    int fd = open(f->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    bool does = fd >= 0 && pwrite(fd, f->memory + 512, BLOCK, 0) == (ssize_t)BLOCK;
    wa_closep(&fd);
    return does;
}

static void
whole_blocks_of_a_large_file_go_past_the_page_cache(void **state)
{
    (void)state;
    fixture f;
    set_up(&f, 3 * FRAME);
    bool does = goes_past_the_cache(&f);
    if (does) {
        put_all(&f, FRAME - 512); /* 512 bytes behind a block's border, three times */
        assert_written(&f);
        assert_int_equal(f.w.cached, 3 * BLOCK);
    }
    tear_down(&f);
    if (!does)
        skip(); /* the file system of /tmp knows no O_DIRECT, or asks for more */
}

static void
a_small_file_goes_through_the_page_cache(void **state)
{
    (void)state;
    fixture f;
    set_up(&f, 512u * 1024);
    put_all(&f, FRAME);
    assert_int_equal(f.w.direct, -1);
    assert_int_equal(f.w.cached, f.size);
    tear_down(&f);
}

static void
what_is_refused_past_the_page_cache_goes_through_it(void **state)
{
    (void)state;
    fixture f;
    set_up(&f, 3 * FRAME);
    wa_closep(&f.w.direct);
    f.w.direct = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC); /* EINVAL: no number */
    assert_true(f.w.direct >= 0);
    put_all(&f, FRAME - 512);
    assert_written(&f);
    assert_int_equal(f.w.direct, -1);
    assert_int_equal(f.w.cached, f.size);
    tear_down(&f);
}

static void
a_disk_that_is_full_is_said_with_the_file(void **state)
{
    (void)state;
    fixture f;
    set_up(&f, 3 * FRAME);
    wa_closep(&f.w.direct);
    f.w.direct = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(f.w.direct >= 0);
    assert_int_equal(put(&f, 0, 0, FRAME), WA_NO_SPACE);
    assert_non_null(strstr(f.err.message, f.path));
    tear_down(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_its_bytes_wherever_frames_cut_it),
        cmocka_unit_test(whole_blocks_of_a_large_file_go_past_the_page_cache),
        cmocka_unit_test(a_small_file_goes_through_the_page_cache),
        cmocka_unit_test(what_is_refused_past_the_page_cache_goes_through_it),
        cmocka_unit_test(a_disk_that_is_full_is_said_with_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

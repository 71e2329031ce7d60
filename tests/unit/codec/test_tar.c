/*
 * Tests of the tar reader and writer, with GNU tar as the second opinion.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/buf.h"
#include "walagent/base/file.h"
#include "walagent/base/str.h"
#include "walagent/codec/tar.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024u * 1024)
#define BLOCK 512

static void
assert_ok(wa_status status, const wa_error *err)
{
    if (status != WA_OK)
        fail_msg("%s: %s", wa_status_name(status), err->message);
}

/* Pulls `step` bytes at a time out of memory; fails at `fail_at`. */
typedef struct source {
    const char *data;
    size_t len, at, step, fail_at;
} source;

static wa_status
pull(void *arg, const void **ret_data, size_t *ret_len, wa_error *err)
{
    source *s = arg;
    size_t step = s->len - s->at < s->step ? s->len - s->at : s->step;

    if (s->at >= s->fail_at)
        return wa_error_set(err, WA_UNAVAILABLE, "the server went away");
    *ret_data = s->data + s->at;
    *ret_len = step;
    s->at += step;
    return WA_OK;
}

/* Everything as text, "type path size mode mtime link: data", a line an entry. */
static wa_status
describe(const void *data, size_t len, size_t step, size_t fail_at, bool with_data, wa_buf *out,
         wa_error *err)
{
    source s = {data, len, 0, step, fail_at};
    WA_CLEANUP(wa_tar_reader_freep) wa_tar_reader *r = NULL;
    wa_tar_entry e;
    bool more;

    WA_TRY(wa_tar_reader_new(pull, &s, &r, err));
    for (;;) {
        WA_TRY(wa_tar_next(r, &e, &more, err));
        if (!more)
            return WA_OK;
        wa_buf_printf(out, "%c %s %llu %o %lld %s:", "fdl"[e.type], e.path,
                      (unsigned long long)e.size, e.mode, (long long)e.mtime, e.link ? e.link : "");
        for (size_t got = with_data; got > 0;) {
            const void *piece;
            WA_TRY(wa_tar_data(r, &piece, &got, err));
            WA_TRY(wa_buf_append(out, piece, got, err));
        }
        wa_buf_putc(out, '\n');
    }
}

static void
write_entry(wa_tar_writer *w, const char *path, wa_tar_type type, const char *text)
{
    wa_error err = WA_ERROR_INIT;
    wa_tar_entry e = {.path = path, .type = type, .mode = 0640, .mtime = 1700000000};

    if (type == WA_TAR_SYMLINK)
        e.link = text;
    if (type == WA_TAR_FILE)
        e.size = strlen(text);
    if (type == WA_TAR_DIRECTORY)
        e.mode = 0750;
    assert_ok(wa_tar_write_entry(w, &e, &err), &err);
    if (type == WA_TAR_FILE)
        assert_ok(wa_tar_write_data(w, text, e.size, &err), &err);
}

static char long_name[300];

static void
write_sample(wa_buf *out)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(out);
    WA_CLEANUP(wa_tar_writer_freep) wa_tar_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;

    memset(long_name, 'n', sizeof long_name - 1);
    assert_ok(wa_tar_writer_new(sink, &w, &err), &err);
    write_entry(w, "base", WA_TAR_DIRECTORY, NULL);
    write_entry(w, "base/1", WA_TAR_FILE, "one");
    write_entry(w, "empty", WA_TAR_FILE, "");
    write_entry(w, "pg_tblspc/16384", WA_TAR_SYMLINK, "/mnt/\xc3\xa4 space");
    write_entry(w, long_name, WA_TAR_FILE, "long");
    write_entry(w, "\xc3\xa4\xff latin \xe4", WA_TAR_FILE, "bytes");
    write_entry(w, "last", WA_TAR_FILE, "end");
    assert_ok(wa_tar_writer_finish(w, &err), &err);
    assert_int_equal(wa_tar_writer_offset(w), out->len);
}

static void
expected_sample(wa_buf *out)
{
    wa_buf_puts(out, "d base 0 750 1700000000 :\nf base/1 3 640 1700000000 :one\n"
                     "f empty 0 640 1700000000 :\n"
                     "l pg_tblspc/16384 0 640 1700000000 /mnt/\xc3\xa4 space:\n");
    wa_buf_printf(out, "f %s 4 640 1700000000 :long\n", long_name);
    wa_buf_puts(out, "f \xc3\xa4\xff latin \xe4 5 640 1700000000 :bytes\n"
                     "f last 3 640 1700000000 :end\n");
}

static void
what_is_written_is_read_in_pieces_of_any_size(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB), expected = WA_BUF_INIT(MIB);
    const size_t steps[] = {1, 7, 511, 512, 513, 4096, MIB};

    write_sample(&tar);
    expected_sample(&expected);
    for (size_t i = 0; i < WA_ARRAY_SIZE(steps); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        assert_ok(describe(tar.data, tar.len, steps[i], SIZE_MAX, true, &text, &err), &err);
        assert_string_equal(wa_buf_str(&text), wa_buf_str(&expected));
    }
}

static void
data_that_is_not_read_is_skipped(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB), text = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    write_sample(&tar);
    assert_ok(describe(tar.data, tar.len, 100, SIZE_MAX, false, &text, &err), &err);
    assert_non_null(strstr(wa_buf_str(&text), "f last 3"));
}

static void
an_archive_without_the_zero_blocks_ends_in_order(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done)
    wa_buf tar = WA_BUF_INIT(MIB), expected = WA_BUF_INIT(MIB), text = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    write_sample(&tar);
    expected_sample(&expected);
    assert_ok(describe(tar.data, tar.len - 2 * BLOCK, 1000, SIZE_MAX, true, &text, &err), &err);
    assert_string_equal(wa_buf_str(&text), wa_buf_str(&expected));
    wa_buf_reset(&text);
    assert_ok(describe("", 0, 1000, SIZE_MAX, true, &text, &err), &err);
    assert_string_equal(wa_buf_str(&text), "");
}

static void
truncation_inside_an_entry_is_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
    size_t found = 0;

    write_sample(&tar);
    for (size_t len = 1; len < tar.len - 2 * BLOCK; len++) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        wa_status status = describe(tar.data, len, 4096, SIZE_MAX, true, &text, &err);
        if (status == WA_OK) {
            /* only where an entry is complete, all but its padding at most */
            assert_memory_equal(tar.data + len, (char[BLOCK]){0}, (BLOCK - len % BLOCK) % BLOCK);
            continue;
        }
        assert_int_equal(status, WA_CORRUPT);
        found++;
    }
    assert_true(found > tar.len / 2);
}

static void
a_damaged_header_is_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);

    write_sample(&tar);
    for (size_t i = BLOCK; i < 2 * BLOCK; i++) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        if (i - BLOCK == 155) /* the blank behind the checksum means nothing */
            continue;
        tar.data[i] ^= 0x15;
        wa_status status = describe(tar.data, tar.len, 4096, SIZE_MAX, true, &text, &err);
        if (status != WA_CORRUPT)
            fail_msg("byte %zu of the header: %s", i - BLOCK, wa_status_name(status));
        tar.data[i] ^= 0x15;
    }
}

static void
the_failure_of_the_pull_is_passed_on(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);

    write_sample(&tar);
    for (size_t fail_at = 0; fail_at < tar.len - BLOCK; fail_at += 256) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(describe(tar.data, tar.len, 256, fail_at, true, &text, &err),
                         WA_UNAVAILABLE);
        assert_string_equal(err.message, "the server went away");
    }
}

static void
the_offset_after_an_entry_is_where_its_data_begins(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&tar);
    WA_CLEANUP(wa_tar_writer_freep) wa_tar_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;
    uint64_t offsets[40];

    memset(long_name, 'n', sizeof long_name - 1);
    assert_ok(wa_tar_writer_new(sink, &w, &err), &err);
    for (size_t i = 0; i < 40; i++) {
        char data[1300];
        const char *start = i % 3 == 0 ? long_name : i % 3 == 1 ? "\xe4" : "";
        WA_CLEANUP(wa_freep) char *path = wa_format("%s%zu", start, i);
        wa_tar_entry e = {.path = path, .type = WA_TAR_FILE, .size = i * 33, .mode = 0600};
        memset(data, 'A' + (int)i, sizeof data);
        assert_ok(wa_tar_write_entry(w, &e, &err), &err);
        offsets[i] = wa_tar_writer_offset(w);
        assert_int_equal(offsets[i], tar.len);
        assert_int_equal(offsets[i] % BLOCK, 0);
        for (size_t done = 0; done < e.size; done += 11)
            assert_ok(wa_tar_write_data(w, data, 11, &err), &err);
    }
    assert_ok(wa_tar_writer_finish(w, &err), &err);
    for (size_t i = 0; i < 40; i++)
        for (size_t j = 0; j < i * 33; j++)
            assert_int_equal(tar.data[offsets[i] + j], 'A' + (int)i);
}

static void
too_little_or_too_much_data_fails(void **state)
{
    (void)state;
    wa_tar_entry e = {.path = "x", .type = WA_TAR_FILE, .size = 10, .mode = 0600};

    for (int i = 0; i < 3; i++) {
        WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
        WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&tar);
        WA_CLEANUP(wa_tar_writer_freep) wa_tar_writer *w = NULL;
        wa_error err = WA_ERROR_INIT;
        assert_ok(wa_tar_writer_new(sink, &w, &err), &err);
        assert_ok(wa_tar_write_entry(w, &e, &err), &err);
        assert_ok(wa_tar_write_data(w, "123456789", 9, &err), &err);
        if (i == 0)
            assert_int_equal(wa_tar_write_data(w, "12", 2, &err), WA_FAILED);
        else if (i == 1)
            assert_int_equal(wa_tar_write_entry(w, &e, &err), WA_FAILED);
        else
            assert_int_equal(wa_tar_writer_finish(w, &err), WA_FAILED);
    }
}

static void
an_abandoned_writer_adds_nothing(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&tar);
    wa_tar_entry e = {.path = "x", .type = WA_TAR_FILE, .size = 10, .mode = 0600};
    wa_tar_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_ok(wa_tar_writer_new(sink, &w, &err), &err);
    assert_ok(wa_tar_write_entry(w, &e, &err), &err);
    assert_int_equal(tar.len, BLOCK);
    wa_tar_writer_free(w);
    assert_int_equal(tar.len, BLOCK);
}

static void
sizes_of_8_gib_and_more_are_kept(void **state)
{
    (void)state;
    const uint64_t sizes[] = {UINT64_C(8589934591), UINT64_C(8589934592), UINT64_C(1) << 40};

    for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
        WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&tar);
        WA_CLEANUP(wa_tar_writer_freep) wa_tar_writer *w = NULL;
        WA_CLEANUP(wa_tar_reader_freep) wa_tar_reader *r = NULL;
        wa_tar_entry e = {.path = "x", .type = WA_TAR_FILE, .size = sizes[i], .mode = 0600}, read;
        wa_error err = WA_ERROR_INIT;
        bool more = false;

        assert_ok(wa_tar_writer_new(sink, &w, &err), &err);
        assert_ok(wa_tar_write_entry(w, &e, &err), &err);
        source s = {tar.data, tar.len, 0, 512, SIZE_MAX};
        assert_ok(wa_tar_reader_new(pull, &s, &r, &err), &err);
        assert_ok(wa_tar_next(r, &read, &more, &err), &err);
        assert_true(more);
        assert_true(read.size == sizes[i]);
    }
}

static void
run(char *const argv[])
{
    int wait_status;
    pid_t pid;

    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_int_equal(wait_status, 0);
}

static void
gnu_tar_extracts_it(void **state)
{
    (void)state;
    char dir[] = "/tmp/walagent-test-XXXXXX";
    WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;
    char target[64];
    const char *const names[] = {"base/1", "empty", "\xc3\xa4\xff latin \xe4", "last"};
    const char *const texts[] = {"one", "", "bytes", "end"};

    write_sample(&tar);
    /* the name of 299 bytes is for readers only: no file system takes it */
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *file = wa_path_join(dir, "a.tar");
    assert_ok(wa_file_write(file, tar.data, tar.len, 0600, WA_WRITE_CREATE, &err), &err);
    char *const argv[] = {(char[]){"tar"},
                          (char[]){"-x"},
                          (char[]){"--warning=no-unknown-keyword"},
                          (char[]){"--exclude=nnn*"},
                          (char[]){"-f"},
                          file,
                          (char[]){"-C"},
                          dir,
                          NULL};
    run(argv);
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++) {
        WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, names[i]);
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(MIB);
        assert_ok(wa_file_read(path, MIB, &text, &err), &err);
        assert_string_equal(wa_buf_str(&text), texts[i]);
    }
    WA_CLEANUP(wa_freep) char *link = wa_path_join(dir, "pg_tblspc/16384");
    ssize_t len = readlink(link, target, sizeof target - 1);
    assert_true(len > 0);
    target[len] = '\0';
    assert_string_equal(target, "/mnt/\xc3\xa4 space");
    assert_ok(wa_remove_tree(dir, &err), &err);
}

static void
archives_of_gnu_tar_are_read(void **state)
{
    (void)state;
    char dir[] = "/tmp/walagent-test-XXXXXX";
    char name[151];
    char *const formats[] = {(char[]){"--format=gnu"}, (char[]){"--format=pax"},
                             (char[]){"--format=ustar"}};
    wa_error err = WA_ERROR_INIT;

    assert_non_null(mkdtemp(dir));
    memset(name, 'x', 150);
    name[150] = '\0';
    memcpy(name, "in/\xc3\xa4", 5);
    name[75] = '/';
    WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, name);
    WA_CLEANUP(wa_freep) char *parent = wa_path_dir(path);
    WA_CLEANUP(wa_freep) char *file = wa_path_join(dir, "a.tar");
    assert_ok(wa_mkdir_p(parent, 0700, &err), &err);
    assert_ok(wa_file_write(path, "content", 7, 0600, WA_WRITE_CREATE, &err), &err);
    for (size_t i = 0; i < WA_ARRAY_SIZE(formats); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf tar = WA_BUF_INIT(MIB), text = WA_BUF_INIT(MIB);
        char *const argv[] = {(char[]){"tar"},
                              (char[]){"-c"},
                              formats[i],
                              (char[]){"-f"},
                              file,
                              (char[]){"-C"},
                              dir,
                              (char[]){"in"},
                              NULL};
        run(argv);
        assert_ok(wa_file_read(file, MIB, &tar, &err), &err);
        assert_ok(describe(tar.data, tar.len, 1000, SIZE_MAX, true, &text, &err), &err);
        WA_CLEANUP(wa_freep) char *line = wa_format("f %s 7 600 ", name);
        assert_non_null(strstr(wa_buf_str(&text), line));
        assert_non_null(strstr(wa_buf_str(&text), ":content\n"));
        assert_memory_equal(text.data, "d in 0 700 ", 11);
    }
    assert_ok(wa_remove_tree(dir, &err), &err);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_in_pieces_of_any_size),
        cmocka_unit_test(data_that_is_not_read_is_skipped),
        cmocka_unit_test(an_archive_without_the_zero_blocks_ends_in_order),
        cmocka_unit_test(truncation_inside_an_entry_is_found),
        cmocka_unit_test(a_damaged_header_is_found),
        cmocka_unit_test(the_failure_of_the_pull_is_passed_on),
        cmocka_unit_test(the_offset_after_an_entry_is_where_its_data_begins),
        cmocka_unit_test(too_little_or_too_much_data_fails),
        cmocka_unit_test(an_abandoned_writer_adds_nothing),
        cmocka_unit_test(sizes_of_8_gib_and_more_are_kept),
        cmocka_unit_test(gnu_tar_extracts_it),
        cmocka_unit_test(archives_of_gnu_tar_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_manifest.c - backup manifests: what PostgreSQL wrote, what we write, and damage.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "walagent/base/buf.h"
#include "walagent/base/str.h"
#include "walagent/codec/hash.h"
#include "walagent/pg/manifest.h"

typedef struct listing {
    wa_buf text; /* "path size algorithm checksum\n" */
    size_t fail_at;
    size_t count;
} listing;

static wa_status
list_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    listing *l = arg;
    char hex[129];
    if (++l->count == l->fail_at)
        return wa_error_set(err, WA_NO_SPACE, "enough");
    wa_buf_printf(&l->text, "%s %llu %s %s\n", file->path, (unsigned long long)file->size,
                  wa_manifest_checksum_name(file->algorithm),
                  wa_hex(file->checksum, file->checksum_len, hex));
    return WA_OK;
}

/* Feed in pieces of `step` bytes. */
static wa_status
parse(const char *text, size_t len, size_t step, listing *l, wa_manifest_info *info, wa_error *err)
{
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *p = wa_manifest_parser_new(list_file, l);
    for (size_t at = 0; at < len; at += step)
        WA_TRY(wa_manifest_feed(p, text + at, len - at < step ? len - at : step, err));
    return wa_manifest_end(p, info, err);
}

/* A whole manifest around `files` (the array's inside), with its right checksum. */
static char *
manifest_of(const char *head, const char *files)
{
    char sum[WA_SHA256_HEX];
    WA_CLEANUP(wa_freep)
    char *body = wa_format("{ %s\n\"Files\": [%s],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, "
                           "\"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n",
                           head, files);
    return wa_format("%s\"Manifest-Checksum\": \"%s\"}\n", body,
                     wa_sha256_hex(body, strlen(body), sum));
}

#define V1 "\"PostgreSQL-Backup-Manifest-Version\": 1,"

static wa_status
status_of(const char *head, const char *files)
{
    WA_CLEANUP(wa_freep) char *text = manifest_of(head, files);
    listing l = {.text = WA_BUF_INIT(1 << 20)};
    wa_manifest_info info;
    wa_error err = WA_ERROR_INIT;
    wa_status status = parse(text, strlen(text), 7, &l, &info, &err);
    wa_buf_done(&l.text);
    return status;
}

/* From pg_basebackup of 15.20 and 17.12, with the files in between left out and summed anew. */
static void
manifests_of_both_versions_are_read_however_they_are_cut(void **state)
{
    (void)state;
    const char *files =
        "\n{ \"Path\": \"backup_label\", \"Size\": 227, \"Last-Modified\": \"2026-11-26 23:54:58 "
        "GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"2fa9bc0d\" },\n"
        "{ \"Encoded-Path\": \"fffe2f61\", \"Size\": 0, \"Last-Modified\": \"2026-11-26 23:54:58 "
        "GMT\" },\n"
        "{ \"Path\": \"a\\\"}{\\\\\", \"Size\": 1, \"Last-Modified\": \"x\", "
        "\"Checksum-Algorithm\": "
        "\"SHA224\", \"Checksum\": "
        "\"00000000000000000000000000000000000000000000000000000001\" }\n";
    WA_CLEANUP(wa_freep) char *v1 = manifest_of(V1, files);
    WA_CLEANUP(wa_freep)
    char *v2 = manifest_of("\"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": "
                           "18446744073709551615,",
                           files);
    for (size_t step = 1; step < 300; step++) {
        listing l = {.text = WA_BUF_INIT(1 << 20)};
        wa_manifest_info info;
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(parse(v1, strlen(v1), step, &l, &info, &err), WA_OK);
        assert_string_equal(
            wa_buf_str(&l.text),
            "backup_label 227 CRC32C 2fa9bc0d\n\xff\xfe/a 0 NONE \na\"}{\\ 1 SHA224 "
            "00000000000000000000000000000000000000000000000000000001\n");
        assert_int_equal(info.version, 1);
        assert_int_equal(info.system_identifier, 0);
        assert_int_equal(info.files, 3);
        assert_int_equal(info.bytes, 228);
        assert_int_equal(info.range_count, 1);
        assert_int_equal(info.ranges[0].tli, 1);
        assert_int_equal(info.ranges[0].start, 0x2000028);
        assert_int_equal(info.ranges[0].end, 0x2000100);
        assert_int_equal(parse(v2, strlen(v2), step, &l, &info, &err), WA_OK);
        assert_int_equal(info.version, 2);
        assert_true(info.system_identifier == UINT64_MAX);
        wa_buf_done(&l.text);
    }
}

static void
every_truncation_is_corrupt(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep)
    char *text = manifest_of(V1, "\n{ \"Path\": \"x\", \"Size\": 1, \"Last-Modified\": \"\" }\n");
    for (size_t len = 0; len < strlen(text); len++) {
        listing l = {.text = WA_BUF_INIT(1 << 20)};
        wa_manifest_info info = {.version = 99};
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(parse(text, len, 64, &l, &info, &err), WA_CORRUPT);
        assert_int_equal(info.version, 99);
        wa_buf_done(&l.text);
    }
}

static void
every_changed_byte_is_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep)
    char *text = manifest_of(V1, "\n{ \"Path\": \"x\", \"Size\": 1, \"Last-Modified\": \"\" }\n");
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        /* The case of the stated checksum's digits is free, and white space behind it. */
        listing l = {.text = WA_BUF_INIT(1 << 20)};
        wa_manifest_info info;
        wa_error err = WA_ERROR_INIT;
        text[i] ^= 1;
        wa_status status = parse(text, len, 64, &l, &info, &err);
        text[i] ^= 1;
        if (status != WA_CORRUPT && status != WA_UNSUPPORTED)
            fail_msg("byte %zu changed: %s", i, wa_status_name(status));
        wa_buf_done(&l.text);
    }
}

static void
paths_that_leave_the_directory_are_corrupt(void **state)
{
    (void)state;
    static const char *const bad[] = {"/etc/passwd", "..",    "../x",    "a/../b",
                                      "a/..",        "",      "a//b",    "a/",
                                      "./a",         "a/./b", "\\u0000", "b\\u0000c"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        WA_CLEANUP(wa_freep)
        char *files =
            wa_format("\n{ \"Path\": \"%s\", \"Size\": 1, \"Last-Modified\": \"\" }\n", bad[i]);
        if (status_of(V1, files) != WA_CORRUPT)
            fail_msg("path \"%s\" was accepted", bad[i]);
    }
    static const char *const good[] = {
        "a", "a/b", "..a", "a..", "...", "a/.b", "pg_tblspc/16385/x"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(good); i++) {
        WA_CLEANUP(wa_freep)
        char *files =
            wa_format("\n{ \"Path\": \"%s\", \"Size\": 1, \"Last-Modified\": \"\" }\n", good[i]);
        if (status_of(V1, files) != WA_OK)
            fail_msg("path \"%s\" was refused", good[i]);
    }
    assert_int_equal(
        status_of(V1, "{\"Encoded-Path\": \"2e2e2f61\", \"Size\": 1, \"Last-Modified\": \"\"}"),
        WA_CORRUPT);
    assert_int_equal(
        status_of(V1, "{\"Encoded-Path\": \"6100\", \"Size\": 1, \"Last-Modified\": \"\"}"),
        WA_CORRUPT);
}

#define FILE_WITH(rest) "{ \"Path\": \"x\", \"Last-Modified\": \"\"" rest "}"

static void
contents_that_make_no_sense_are_corrupt(void **state)
{
    (void)state;
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1")), WA_OK);
    assert_int_equal(status_of(V1, FILE_WITH("")), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": -1")), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": \"1\"")), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1, \"Size\": 2")), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1, \"Checksum\": \"00\"")), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1, \"Checksum-Algorithm\": \"CRC32C\", "
                                             "\"Checksum\": \"00\"")),
                     WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1, \"Checksum-Algorithm\": \"CRC64\", "
                                             "\"Checksum\": \"00\"")),
                     WA_UNSUPPORTED);
    assert_int_equal(status_of(V1, "1"), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1") ","), WA_CORRUPT);
    assert_int_equal(status_of(V1, FILE_WITH(", \"Size\": 1") FILE_WITH(", \"Size\": 1")),
                     WA_CORRUPT);
    assert_int_equal(status_of("", FILE_WITH(", \"Size\": 1")), WA_CORRUPT);
    assert_int_equal(status_of(V1 V1, FILE_WITH(", \"Size\": 1")), WA_CORRUPT);
    assert_int_equal(status_of(V1 "\"Other\": 1,", FILE_WITH(", \"Size\": 1")), WA_CORRUPT);
    assert_int_equal(status_of("\"PostgreSQL-Backup-Manifest-Version\": 3,", ""), WA_UNSUPPORTED);
    assert_int_equal(status_of("\"PostgreSQL-Backup-Manifest-Version\": 2,", ""), WA_CORRUPT);
    assert_int_equal(status_of(V1 "\"Files\": [],", ""), WA_CORRUPT);
}

static void
an_element_longer_than_its_cap_is_corrupt(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *path = wa_malloc(70000);
    memset(path, 'a', 69999);
    path[69999] = '\0';
    WA_CLEANUP(wa_freep)
    char *files = wa_format("{ \"Path\": \"%s\", \"Size\": 1, \"Last-Modified\": \"\" }", path);
    assert_int_equal(status_of(V1, files), WA_CORRUPT);
}

static void
the_callers_refusal_ends_the_parsing(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep)
    char *text = manifest_of(V1, FILE_WITH(", \"Size\": 1") "," FILE_WITH(", \"Size\": 2"));
    listing l = {.text = WA_BUF_INIT(1 << 20), .fail_at = 1};
    wa_manifest_info info;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(parse(text, strlen(text), 1000, &l, &info, &err), WA_NO_SPACE);
    assert_int_equal(l.count, 1);
    wa_buf_done(&l.text);
}

static void
fill_file(unsigned *seed, wa_manifest_file *file, char *path)
{
    size_t len = 1 + (size_t)rand_r(seed) % 200;
    for (size_t i = 0; i < len; i++)
        path[i] = (char)(rand_r(seed) % 4 == 0 ? 1 + rand_r(seed) % 255 : 'a' + rand_r(seed) % 26);
    for (size_t i = 0; i < len; i++)
        if (path[i] == '/' || path[i] == '.' || path[i] == '\0')
            path[i] = 'x';
    path[len] = '\0';
    file->path = path;
    file->size = (uint64_t)rand_r(seed) << (rand_r(seed) % 10);
    file->mtime = "2026-11-26 23:54:58 GMT";
    file->algorithm = (wa_manifest_checksum)(rand_r(seed) % (WA_MANIFEST_SHA512 + 1));
    file->checksum_len = wa_manifest_checksum_size(file->algorithm);
    for (size_t i = 0; i < file->checksum_len; i++)
        file->checksum[i] = (uint8_t)rand_r(seed);
}

static void
what_is_written_is_read_back(void **state)
{
    (void)state;
    unsigned seed = 20261126;
    print_message("seed %u\n", seed);
    for (int round = 0; round < 200; round++) {
        int version = 1 + round % 2;
        WA_CLEANUP(wa_manifest_writer_freep)
        wa_manifest_writer *w = wa_manifest_writer_new(version, version == 2 ? 42 : 0);
        WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(1 << 22);
        wa_error err = WA_ERROR_INIT;
        listing l = {.text = WA_BUF_INIT(1 << 22)}, e = {.text = WA_BUF_INIT(1 << 22)};
        size_t files = (size_t)rand_r(&seed) % 20;
        for (size_t i = 0; i < files; i++) {
            wa_manifest_file file;
            char path[256];
            fill_file(&seed, &file, path);
            assert_int_equal(wa_manifest_write_file(w, &file, &out, &err), WA_OK);
            assert_int_equal(list_file(&e, &file, &err), WA_OK);
        }
        wa_manifest_range ranges[] = {{1, 0x100000028, 0x2000000AB}, {0xFFFFFFFF, 0, UINT64_MAX}};
        assert_int_equal(wa_manifest_write_end(w, ranges, 2, &out, &err), WA_OK);
        wa_manifest_info info;
        assert_int_equal(
            parse(out.data, out.len, 1 + (size_t)rand_r(&seed) % 5000, &l, &info, &err), WA_OK);
        assert_string_equal(wa_buf_str(&l.text), wa_buf_str(&e.text));
        assert_int_equal(info.files, files);
        assert_int_equal(info.range_count, 2);
        for (size_t i = 0; i < WA_ARRAY_SIZE(ranges); i++) {
            assert_int_equal(info.ranges[i].tli, ranges[i].tli);
            assert_true(info.ranges[i].start == ranges[i].start);
            assert_true(info.ranges[i].end == ranges[i].end);
        }
        assert_true(info.system_identifier == (version == 2 ? 42 : 0));
        wa_buf_done(&l.text);
        wa_buf_done(&e.text);
    }
}

/* One character changed, left out or doubled. */
static void
spoil(unsigned *seed, char *text)
{
    static const char letters[] = "0123456789{}\\\",:.-+e PathSizeGMT/\x7f\xff\x01";
    size_t len = strlen(text), at = (size_t)rand_r(seed) % len;
    switch (rand_r(seed) % 3) {
    case 0:
        text[at] = letters[(size_t)rand_r(seed) % (sizeof letters - 1)];
        break;
    case 1:
        memmove(text + at, text + at + 1, len - at);
        break;
    default: /* there is room for it */
        memmove(text + at + 1, text + at, len - at + 1);
    }
}

static wa_status
read_file(const char *element, size_t step, listing *l)
{
    WA_CLEANUP(wa_freep) char *text = manifest_of(V1, element);
    wa_manifest_info info;
    wa_error err = WA_ERROR_INIT;
    return parse(text, strlen(text), step, l, &info, &err);
}

/* A second space before the path, and the JSON library reads it. */
static void
both_readers_of_files_accept_the_same_and_understand_it_alike(void **state)
{
    (void)state;
    size_t accepted = 0, refused = 0;
    for (unsigned round = 1; round <= 5000; round++) {
        unsigned seed = round;
        char element[512];
        snprintf(element, sizeof element,
                 "{ \"Path\": \"base/%d/%d%s\", \"Size\": %d, \"Last-Modified\": \"2026-11-26 "
                 "23:54:58 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%08x\" }",
                 rand_r(&seed) % 7, rand_r(&seed), rand_r(&seed) % 4 == 0 ? "_vm" : "",
                 rand_r(&seed) % 3 == 0 ? rand_r(&seed) : 8192, (unsigned)rand_r(&seed));
        for (int i = rand_r(&seed) % 3; i > 0; i--)
            spoil(&seed, element);
        WA_CLEANUP(wa_freep) char *spaced = wa_format("{ %s", element + 1);
        if (element[0] != '{')
            continue;
        listing fast = {.text = WA_BUF_INIT(1 << 20)}, slow = {.text = WA_BUF_INIT(1 << 20)};
        wa_status a = read_file(element, 1 + (size_t)rand_r(&seed) % 300, &fast);
        wa_status b = read_file(spaced, 1 + (size_t)rand_r(&seed) % 300, &slow);
        if (a != b || strcmp(wa_buf_str(&fast.text), wa_buf_str(&slow.text)) != 0)
            fail_msg("seed %u: of %s one makes %s, %s, the other %s, %s", round, element,
                     wa_status_name(a), wa_buf_str(&fast.text), wa_status_name(b),
                     wa_buf_str(&slow.text));
        accepted += a == WA_OK;
        refused += a != WA_OK;
        wa_buf_done(&fast.text);
        wa_buf_done(&slow.text);
    }
    assert_in_range(accepted, 1000, 5000);
    assert_in_range(refused, 1000, 5000);
}

static void
checksums_are_those_of_the_published_vectors(void **state)
{
    (void)state;
    static const struct {
        wa_manifest_checksum algorithm;
        const char *hex; /* of "abc" (FIPS 180-4), or CRC-32C of "123456789" little-endian */
        const char *text;
    } vectors[] = {
        {WA_MANIFEST_NONE, "", "abc"},
        {WA_MANIFEST_CRC32C, "839206e3", "123456789"},
        {WA_MANIFEST_SHA224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7", "abc"},
        {WA_MANIFEST_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
         "abc"},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(vectors); i++) {
        WA_CLEANUP(wa_checksummer_freep)
        wa_checksummer *c = wa_checksummer_new(vectors[i].algorithm);
        for (int again = 0; again < 2; again++) {
            uint8_t sum[64];
            char hex[129];
            const char *text = vectors[i].text;
            wa_checksummer_update(c, text, 1);
            wa_checksummer_update(c, text + 1, strlen(text) - 1);
            size_t len = wa_checksummer_final(c, sum);
            assert_string_equal(wa_hex(sum, len, hex), vectors[i].hex);
            wa_checksummer_reset(c);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_of_both_versions_are_read_however_they_are_cut),
        cmocka_unit_test(every_truncation_is_corrupt),
        cmocka_unit_test(every_changed_byte_is_found),
        cmocka_unit_test(paths_that_leave_the_directory_are_corrupt),
        cmocka_unit_test(contents_that_make_no_sense_are_corrupt),
        cmocka_unit_test(an_element_longer_than_its_cap_is_corrupt),
        cmocka_unit_test(the_callers_refusal_ends_the_parsing),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(both_readers_of_files_accept_the_same_and_understand_it_alike),
        cmocka_unit_test(checksums_are_those_of_the_published_vectors),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}

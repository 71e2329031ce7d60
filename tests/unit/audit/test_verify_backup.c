/*
 * test_verify_backup.c - verify reads a backup's packs: what it counts, and what it says of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "verify_fixture.h"

#include "walagent/base/crc32c.h"
#include "walagent/codec/container.h"
#include "walagent/pg/manifest.h"

#define LABEL "20261123T021400Z-F-1a2b"
#define FRAME 4096u
#define FILES 2u
#define FILE_SIZE (3 * FRAME + 100)
#define GAP 512u /* a tar header */
#define PACK_SIZE (FILES * (GAP + FILE_SIZE))

typedef enum wrong { NOTHING, A_SUM, A_BYTE } wrong;

static void
put_object(fixture *f, const char *name, const char *kind, const void *data, size_t len, wrong what)
{
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1u << 20);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(f->repo, LABEL, name);
    wa_json_set_string(facts, "kind", kind);
    OK(wa_container_writer_new(sink, NULL, 1, FRAME, &w, &f->err));
    wa_container_publish_sums(w);
    OK(wa_container_write(w, data, len, &f->err));
    OK(wa_container_finish(w, facts, NULL, &f->err));
    char *text = memmem(object.data, object.len, "{\"v\":1", 6);
    char *digit = strstr(text, "\"frame_sums\":\"") + strlen("\"frame_sums\":\"");
    char *crc = strstr(text, ",\"crc\":\""), seal[9];
    if (what == A_SUM)
        *digit = *digit == '0' ? '1' : '0';
    if (what == A_BYTE)
        object.data[object.len / 2] ^= 1;
    /* As one that has made a mistake writes it: the facts have the checksum that they need. */
    (void)snprintf(seal, sizeof seal, "%08x", wa_crc32c(0, text, (size_t)(crc - text)));
    memcpy(crc + strlen(",\"crc\":\""), seal, 8);
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(wa_repo_store(f->repo), key, &body, NULL, WA_PUT_CREATE, &f->err));
}

static void
fill(uint8_t *data, size_t len)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
}

/* Two files and a directory. */
static void
put_backup(fixture *f, wrong what)
{
    uint8_t raw[PACK_SIZE];
    WA_CLEANUP(wa_buf_done) wa_buf list = WA_BUF_INIT(1u << 16);
    WA_CLEANUP(wa_buf_done) wa_buf manifest = WA_BUF_INIT(1u << 16);
    WA_CLEANUP(wa_manifest_writer_freep)
    wa_manifest_writer *w = wa_manifest_writer_new(1, 0);
    WA_CLEANUP(wa_checksummer_freep) wa_checksummer *sum = wa_checksummer_new(WA_MANIFEST_CRC32C);
    fill(raw, sizeof raw);
    wa_backup_file_line(&(wa_backup_file){.path = "base", .type = 'd', .mode = 0700}, &list);
    for (unsigned i = 0; i < FILES; i++) {
        char path[16];
        (void)snprintf(path, sizeof path, "base/%u", i);
        wa_backup_file file = {.path = path,
                               .type = 'f',
                               .size = FILE_SIZE,
                               .offset = i * (GAP + FILE_SIZE) + GAP,
                               .pack = 1,
                               .mode = 0600};
        wa_manifest_file named = {.path = path,
                                  .size = FILE_SIZE,
                                  .mtime = "2026-11-23 02:14:00 GMT",
                                  .algorithm = WA_MANIFEST_CRC32C};
        wa_checksummer_reset(sum);
        wa_checksummer_update(sum, raw + file.offset, FILE_SIZE);
        named.checksum_len = wa_checksummer_final(sum, named.checksum);
        wa_backup_file_line(&file, &list);
        OK(wa_manifest_write_file(w, &named, &manifest, &f->err));
    }
    wa_manifest_range range = {.tli = 1, .start = SEGMENT, .end = SEGMENT + 100};
    OK(wa_manifest_write_end(w, &range, 1, &manifest, &f->err));
    wa_backup_info *b = wa_backup_info_new();
    b->start_time = wa_time_now();
    b->end_time = b->start_time + 1000000;
    snprintf(b->label, sizeof b->label, LABEL);
    b->branch = b->end_branch = f->branch;
    b->start_lsn = SEGMENT;
    b->end_lsn = SEGMENT + 100;
    b->major = 15;
    b->system_identifier = SYSTEM;
    b->segment_size = SEGMENT;
    b->files = FILES + 1;
    b->regular_files = FILES;
    b->packs = wa_calloc(1, sizeof *b->packs);
    b->pack_count = 1;
    b->packs[0].raw_size = PACK_SIZE;
    OK(wa_backup_begin(f->repo, b, &f->err));
    put_object(f, "pack-00001.tar.zst", "pack", raw, sizeof raw, what);
    put_object(f, "files.zst", "files", list.data, list.len, NOTHING);
    put_object(f, "backup_manifest.zst", "manifest", manifest.data, manifest.len, NOTHING);
    OK(wa_backup_commit(f->repo, b, &f->err));
    wa_backup_info_free(b);
    put_segment(f, 1, wal_bytes(f->wal));
}

static wa_verify_result
verify_backups(fixture *f)
{
    wa_verify_result r = {0};
    wa_verify_options options = {.repo = f->repo, .backup = "all", .jobs = 2};
    OK(wa_verify_run(&options, &r, &f->err));
    return r;
}

static void
a_whole_backup_has_no_damage_and_its_files_are_counted(void **state)
{
    fixture *f = *state;
    put_backup(f, NOTHING);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify_backups(f);
    if (r.damage_count > 0)
        fail_msg("%s", r.damage[0].message);
    assert_int_equal(r.backups, 1);
    assert_int_equal(r.files, FILES); /* the directory is none */
    assert_int_equal(r.backup_bytes, FILES * FILE_SIZE);
}

static void
a_wrong_checksum_of_a_frame_is_a_warning_that_says_what_it_costs(void **state)
{
    fixture *f = *state;
    put_backup(f, A_SUM);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify_backups(f);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.warning_count, 1);
    assert_string_equal(r.damage[0].kind, "sums");
    assert_non_null(strstr(r.damage[0].object, "pack-00001"));
    assert_non_null(strstr(r.damage[0].message, "1 of its 7 frames"));
    assert_non_null(strstr(r.damage[0].cost, "nothing is lost"));
    assert_int_equal(r.files, FILES);
}

static void
a_damaged_pack_is_damage(void **state)
{
    fixture *f = *state;
    put_backup(f, A_BYTE);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify_backups(f);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.warning_count, 0);
    assert_string_equal(r.damage[0].kind, "backup");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_backup_has_no_damage_and_its_files_are_counted),
        TEST(a_wrong_checksum_of_a_frame_is_a_warning_that_says_what_it_costs),
        TEST(a_damaged_pack_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

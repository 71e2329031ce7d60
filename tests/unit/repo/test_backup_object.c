/*
 * Tests of backups and events in the archive.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/repo/backup_object.h"
#include "walagent/repo/event.h"
#include "walagent/repo/hold.h"

static const char label_a[] = "20261123T021400Z-F-1a2b", label_b[] = "20261124T021400Z-I-00ff";

static wa_backup_info *
info_of(const fixture *f, const char *label, const char *parent, wa_time end)
{
    wa_backup_info *b = wa_backup_info_new();
    snprintf(b->label, sizeof b->label, "%s", label);
    snprintf(b->parent, sizeof b->parent, "%s", parent);
    b->incremental = parent[0] != '\0';
    b->note = wa_strdup("before the upgrade");
    wa_strv_add(&b->annotations, "ticket=42");
    b->branch = b->end_branch = f->first;
    b->start_lsn = 0x2000028;
    b->end_lsn = 0x2000138;
    b->start_time = 1000000;
    b->end_time = end;
    b->major = 15;
    b->system_identifier = SYSTEM_ID;
    b->segment_size = SEGMENT;
    b->files = 3;
    b->regular_files = 2;
    b->raw_bytes = UINT64_C(1) << 60;
    snprintf(b->source, sizeof b->source, "remote");
    snprintf(b->manifest_checksum, sizeof b->manifest_checksum, "CRC32C");
    b->pack_count = 1;
    b->packs = wa_calloc(1, sizeof *b->packs);
    b->packs[0] = (wa_backup_pack){100, 50, "0123456789abcdef0123456789abcdef"};
    b->tablespace_count = 1;
    b->tablespaces = wa_calloc(1, sizeof *b->tablespaces);
    b->tablespaces[0] = (wa_backup_tablespace){16384, wa_strdup("/srv/ts")};
    return b;
}

static void
put_backup(fixture *f, const char *label, const char *parent, wa_time end)
{
    wa_error err = WA_ERROR_INIT;
    wa_backup_info *b = info_of(f, label, parent, end);
    OK(wa_backup_begin(f->repo, b, &err));
    OK(wa_backup_commit(f->repo, b, &err));
    wa_backup_info_free(b);
}

static void
add_data(fixture *f, const char *label, const char *name)
{
    char *key = wa_backup_key(f->repo, label, name);
    put_raw(f, key, "data", 4);
    free(key);
}

static void
labels_have_one_shape(void **state)
{
    (void)state;
    char label[WA_LABEL_SIZE];
    wa_backup_new_label(true, 0, label);
    assert_true(wa_backup_label_valid(label));
    assert_int_equal(strncmp(label, "20000101T000000Z-I-", 19), 0);
    static const char *const bad[] = {"",
                                      "latest",
                                      "20261123T021400Z-F-1A2B",
                                      "20261123T021400Z-X-1a2b",
                                      "20261123T021400Z-F-1a2b/",
                                      "../261123T021400Z-F-1a2b"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++)
        assert_false(wa_backup_label_valid(bad[i]));
}

static void
an_earlier_versions_backup_says_that_its_files_were_not_counted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *b = info_of(&f, label_a, "", 100), *old = NULL;
    WA_CLEANUP(wa_json_freep) json_t *json = wa_backup_info_to_json(b);
    assert_int_equal(json_object_del(json, "regular_files"), 0);
    OK(wa_backup_info_from_json(json, "backup.json", &old, &err));
    assert_int_equal(old->files, 3);
    assert_true(old->regular_files == WA_FILES_UNKNOWN);
    WA_CLEANUP(wa_json_freep) json_t *told = wa_backup_info_to_json(old);
    assert_true(json_is_null(json_object_get(told, "regular_files")));
    WA_CLEANUP(wa_backup_info_freep) wa_backup_info *again = NULL;
    OK(wa_backup_info_from_json(told, "backup.json", &again, &err));
    assert_true(again->regular_files == WA_FILES_UNKNOWN);
    fixture_done(&f);
}

static void
a_backup_is_read_back_as_it_was_committed(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_backup(&f, label_b, label_a, 5000000);
    wa_backup_info *b = NULL;
    OK(wa_backup_load(f.repo, label_b, &b, &err));
    assert_true(b->incremental);
    assert_string_equal(b->parent, label_a);
    assert_string_equal(b->note, "before the upgrade");
    assert_int_equal(b->annotations.count, 1);
    assert_true(wa_branch_eq(&b->branch, &f.first));
    assert_true(b->start_lsn == 0x2000028 && b->end_lsn == 0x2000138);
    assert_true(b->end_time == 5000000);
    assert_true(b->system_identifier == SYSTEM_ID);
    assert_true(b->raw_bytes == UINT64_C(1) << 60);
    assert_true(b->packs[0].raw_size == 100);
    assert_string_equal(b->tablespaces[0].location, "/srv/ts");
    wa_backup_info_free(b);
    b = NULL;
    FAILS(wa_backup_load(f.repo, label_a, &b, &err), WA_NOT_FOUND);
    FAILS(wa_backup_load(f.repo, "../x", &b, &err), WA_INVALID);
    fixture_done(&f);
}

static void
a_list_tells_damaged_and_unfinished_backups_apart(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_backup(&f, "20261125T000000Z-F-0001", "", 100); /* ended before the next one */
    put_backup(&f, label_a, "", 900);
    put_backup(&f, "20261124T000000Z-F-0002", "", 500);
    char *key = wa_backup_key(f.repo, "20261124T000000Z-F-0002", "backup.json");
    put_raw(&f, key, "{\"v\":1,", 7);
    wa_backup_info *b = info_of(&f, "20261126T000000Z-F-0003", "", WA_TIME_NONE);
    OK(wa_backup_begin(f.repo, b, &err));
    wa_backups all = {0};
    OK(wa_backups_load(f.repo, &all, &err));
    assert_int_equal(all.count, 2);
    assert_string_equal(all.items[0]->label, "20261125T000000Z-F-0001");
    assert_string_equal(all.items[1]->label, label_a);
    assert_int_equal(all.damaged.count, 1);
    assert_int_equal(strncmp(all.damaged.items[0], "20261124T000000Z-F-0002: ", 25), 0);
    assert_int_equal(all.unfinished.count, 1);
    assert_string_equal(all.unfinished.items[0], "20261126T000000Z-F-0003");
    wa_backups_done(&all);
    wa_backup_info_free(b);
    free(key);
    fixture_done(&f);
}

static void
no_failure_of_the_store_makes_a_list_shorter(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_TEAR, WA_FAULT_TRUNCATE_LIST,
                                      WA_FAULT_DENY};
    fixture f;
    fixture_new(&f);
    put_backup(&f, label_a, "", 100);
    put_backup(&f, label_b, label_a, 200);
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1; nth < 8; nth++) {
            wa_error err = WA_ERROR_INIT;
            wa_backups all = {0};
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            if (wa_backups_load(f.repo, &all, &err) == WA_OK)
                assert_int_equal(all.count, 2);
            wa_backups_done(&all);
        }
    }
    fixture_done(&f);
}

static void
a_commit_is_final_and_can_be_repeated(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_backup_info *b = info_of(&f, label_a, "", 100);
    OK(wa_backup_begin(f.repo, b, &err));
    wa_store_fault_set(f.store, "put", 1, 0, WA_FAULT_LOSE_REPLY);
    FAILS(wa_backup_commit(f.repo, b, &err), WA_UNAVAILABLE);
    OK(wa_backup_commit(f.repo, b, &err));
    b->files++;
    FAILS(wa_backup_commit(f.repo, b, &err), WA_CONFLICT);
    FAILS(wa_backup_abandon(f.repo, label_a, "test", &err), WA_CONFLICT);
    wa_backup_info *there = NULL;
    OK(wa_backup_load(f.repo, label_a, &there, &err));
    assert_int_equal(there->files, 3);
    assert_int_equal(there->regular_files, 2);
    assert_int_equal(count_keys(&f, "backup/"), 2);
    wa_backup_info_free(there);
    wa_backup_info_free(b);
    fixture_done(&f);
}

static void
an_abandoned_run_leaves_nothing_and_cannot_commit(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY, WA_FAULT_TEAR};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 30);
            wa_error err = WA_ERROR_INIT;
            fixture f;
            fixture_new(&f);
            wa_backup_info *b = info_of(&f, label_a, "", 100);
            OK(wa_backup_begin(f.repo, b, &err));
            add_data(&f, label_a, "pack-00001.tar.zst");
            add_data(&f, label_a, "files.zst");
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = wa_backup_abandon(f.repo, label_a, "test", &err);
            unsigned hits = wa_store_fault_hits(f.store);
            no_faults(&f);
            if (status != WA_OK) {
                assert_int_equal(status, WA_UNAVAILABLE);
                char *key = wa_backup_key(f.repo, label_a, "abandoned.json");
                bool marked = false;
                OK(wa_object_exists(f.store, key, &marked, &err));
                if (marked || count_keys(&f, "backup/") == 0)
                    FAILS(wa_backup_commit(f.repo, b, &err), WA_CONFLICT);
                free(key);
                OK(wa_backup_abandon(f.repo, label_a, "test", &err));
            }
            assert_int_equal(count_keys(&f, "backup/"), 0);
            wa_backup_info_free(b);
            fixture_done(&f);
            if (hits == 0)
                break;
        }
    }
}

static void
a_clean_up_takes_only_runs_to_which_nothing_was_added(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_backup(&f, label_b, label_a, 100);
    wa_backup_info *b = info_of(&f, label_a, "", 100);
    OK(wa_backup_begin(f.repo, b, &err));
    size_t count = 9;
    OK(wa_backup_clean(f.repo, 0, &count, &err));
    assert_int_equal(count, 0);
    /* An abandoned one is finished off whatever its age. */
    char *key = wa_backup_key(f.repo, label_a, "abandoned.json");
    put_raw(&f, key, "{}", 2);
    OK(wa_backup_clean(f.repo, 0, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(count_keys(&f, "backup/"), 2);
    wa_backups all = {0};
    OK(wa_backups_load(f.repo, &all, &err));
    assert_int_equal(all.count, 1);
    wa_backups_done(&all);
    free(key);
    wa_backup_info_free(b);
    fixture_done(&f);
}

typedef struct racer {
    fixture *f;
    const wa_backup_info *b;
    pthread_barrier_t *start;
    wa_status status;
} racer;

static void *
race_commit(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    pthread_barrier_wait(r->start);
    r->status = wa_backup_commit(r->f->repo, r->b, &err);
    return NULL;
}

static void *
race_abandon(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    pthread_barrier_wait(r->start);
    r->status = wa_backup_abandon(r->f->repo, label_a, "test", &err);
    return NULL;
}

static void
a_backup_that_was_committed_while_it_was_cleaned_has_its_data(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        wa_backup_info *b = info_of(&f, label_a, "", 100);
        OK(wa_backup_begin(f.repo, b, &err));
        add_data(&f, label_a, "pack-00001.tar.zst");
        pthread_barrier_t start;
        assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
        racer commit = {&f, b, &start, WA_FAILED}, abandon = {&f, b, &start, WA_FAILED};
        pthread_t threads[2];
        OK(wa_thread_start(&threads[0], "commit", race_commit, &commit, &err));
        OK(wa_thread_start(&threads[1], "abandon", race_abandon, &abandon, &err));
        wa_thread_join(threads[0]);
        wa_thread_join(threads[1]);
        pthread_barrier_destroy(&start);
        char *done = wa_backup_key(f.repo, label_a, "backup.json");
        char *pack = wa_backup_key(f.repo, label_a, "pack-00001.tar.zst");
        bool exists = false, data = false;
        OK(wa_object_exists(f.store, done, &exists, &err));
        OK(wa_object_exists(f.store, pack, &data, &err));
        assert_true(!exists || data);
        if (commit.status == WA_OK)
            assert_true(exists && abandon.status == WA_CONFLICT);
        free(done);
        free(pack);
        wa_backup_info_free(b);
        fixture_done(&f);
    }
}

typedef struct files {
    const wa_backup_file *expected;
    size_t seen;
} files;

static wa_status
see_file(void *arg, const wa_backup_file *f, wa_error *err)
{
    (void)err;
    files *s = arg;
    const wa_backup_file *want = &s->expected[s->seen++];
    assert_string_equal(f->path, want->path);
    assert_int_equal(f->type, want->type);
    assert_true(f->size == want->size && f->offset == want->offset && f->pack == want->pack);
    assert_true(f->mode == want->mode && f->mtime == want->mtime);
    if (want->type == 'l')
        assert_string_equal(f->link, want->link);
    return WA_OK;
}

static void
put_files(fixture *f, const void *text, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    wa_buf packed = WA_BUF_INIT(1u << 20);
    json_t *facts = json_pack("{s:s}", "kind", "files");
    OK(wa_container_pack(text, len, 1, facts, NULL, &packed, &err));
    char *key = wa_backup_key(f->repo, label_a, "files.zst");
    put_raw(f, key, packed.data, packed.len);
    json_decref(facts);
    wa_buf_done(&packed);
    free(key);
}

static void
the_list_of_files_keeps_odd_names(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    static const wa_backup_file expected[] = {
        {.path = "base/5/1259",
         .type = 'f',
         .size = UINT64_C(1) << 40,
         .offset = 512,
         .pack = 3,
         .mode = 0600,
         .mtime = 1795000000},
        {.path = "base/new\nline \"quoted\"", .type = 'f', .pack = 1, .mode = 0640, .mtime = -1},
        {.path = "base/latin\xe9", .type = 'd', .mode = 0700},
        {.path = "pg_tblspc/16384", .type = 'l', .mode = 0777, .link = "/srv/\xff"}};
    wa_buf text = WA_BUF_INIT(1u << 16);
    for (size_t i = 0; i < WA_ARRAY_SIZE(expected); i++)
        wa_backup_file_line(&expected[i], &text);
    put_files(&f, text.data, text.len);
    files s = {.expected = expected};
    OK(wa_backup_files(f.repo, label_a, see_file, &s, &err));
    assert_int_equal(s.seen, WA_ARRAY_SIZE(expected));
    wa_buf_done(&text);
    fixture_done(&f);
}

static wa_status
take_any(void *arg, const wa_backup_file *f, wa_error *err)
{
    (void)arg;
    (void)f;
    (void)err;
    return WA_OK;
}

static void
a_path_that_leaves_the_data_directory_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"/etc/passwd", "../x", "a/../../x", "a//b", "",
                                      ".",           "a/",   "a/./b",     ".."};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        wa_buf text = WA_BUF_INIT(1000);
        wa_backup_file_line(&(wa_backup_file){.path = bad[i], .type = 'd', .mode = 0700}, &text);
        put_files(&f, text.data, text.len);
        FAILS(wa_backup_files(f.repo, label_a, take_any, NULL, &err), WA_CORRUPT);
        assert_non_null(strstr(err.message, "files.zst"));
        wa_buf_done(&text);
        fixture_done(&f);
    }
}

static void
events_come_back_in_order_and_damage_hides_none(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    json_t *details = json_pack("{s:i}", "n", 1), *events = NULL;
    OK(wa_event_put(f.repo, "hole", "first", details, &err));
    wa_time between = wa_time_now() + 1;
    while (wa_time_now() <= between)
        ;
    OK(wa_event_put(f.repo, "fenced", "second", NULL, &err));
    OK(wa_events_load(f.repo, WA_TIME_NONE, &events, &err));
    assert_int_equal(json_array_size(events), 2);
    assert_string_equal(wa_json_string_or(json_array_get(events, 0), "message", ""), "first");
    assert_string_equal(wa_json_string_or(json_array_get(events, 1), "kind", ""), "fenced");
    json_decref(events);
    OK(wa_events_load(f.repo, between, &events, &err));
    assert_int_equal(json_array_size(events), 1);
    json_decref(events);
    wa_store_fault_set(f.store, "get", 1, 0, WA_FAULT_FLIP);
    OK(wa_events_load(f.repo, WA_TIME_NONE, &events, &err));
    assert_int_equal(json_array_size(events), 2);
    assert_string_equal(wa_json_string_or(json_array_get(events, 0), "kind", ""), "damage");
    json_decref(events);
    wa_store_fault_set(f.store, "get", 2, 0, WA_FAULT_FAIL);
    FAILS(wa_events_load(f.repo, WA_TIME_NONE, &events, &err), WA_UNAVAILABLE);
    json_decref(details);
    fixture_done(&f);
}

static void
a_hold_holds_until_it_is_released_even_when_damaged(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    wa_holds holds = {0};
    fixture_new(&f);
    FAILS(wa_hold_put(f.repo, label_a, "audit", &err), WA_NOT_FOUND);
    put_backup(&f, label_a, "", 100);
    OK(wa_hold_put(f.repo, label_a, "audit", &err));
    OK(wa_hold_put(f.repo, label_a, "again", &err));
    OK(wa_holds_load(f.repo, &holds, &err));
    assert_true(wa_holds_has(&holds, label_a));
    assert_false(wa_holds_has(&holds, label_b));
    assert_string_equal(holds.items[0].reason, "audit");
    wa_holds_done(&holds);
    char *key = wa_repo_key(f.repo, "hold/%s", label_a);
    put_raw(&f, key, "{", 1);
    OK(wa_holds_load(f.repo, &holds, &err));
    assert_true(wa_holds_has(&holds, label_a));
    wa_holds_done(&holds);
    wa_store_fault_set(f.store, "get", 1, 0, WA_FAULT_FAIL);
    FAILS(wa_holds_load(f.repo, &holds, &err), WA_UNAVAILABLE);
    OK(wa_hold_release(f.repo, label_a, &err));
    FAILS(wa_hold_release(f.repo, label_a, &err), WA_NOT_FOUND);
    OK(wa_holds_load(f.repo, &holds, &err));
    assert_int_equal(holds.count, 0);
    wa_holds_done(&holds);
    free(key);
    fixture_done(&f);
}

/* The other one's object appears between the look and the write: whoever may have lost data gives
 * way, so a committed backup is never one whose packs a clean-up took. */
static void
of_a_commit_and_an_abandon_at_once_no_half_backup_remains(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_backup_info *b = info_of(&f, label_a, "", 100);
    OK(wa_backup_begin(f.repo, b, &err));
    char *abandoned = wa_backup_key(f.repo, label_a, "abandoned.json");
    char *done = wa_backup_key(f.repo, label_a, "backup.json");
    /* The commit wrote backup.json and lost the reply; then a clean-up came first. */
    wa_store_fault_set(f.store, "head", 3, 0, WA_FAULT_FAIL);
    FAILS(wa_backup_commit(f.repo, b, &err), WA_UNAVAILABLE);
    FAILS(wa_backup_abandon(f.repo, label_a, "test", &err), WA_CONFLICT);
    OK(wa_backup_commit(f.repo, b, &err));
    drop(&f, done);
    /* A clean-up marked it and has not removed it yet. */
    put_raw(&f, abandoned, "{}", 2);
    FAILS(wa_backup_commit(f.repo, b, &err), WA_CONFLICT);
    bool there = true;
    OK(wa_object_exists(f.store, done, &there, &err));
    assert_false(there);
    free(abandoned);
    free(done);
    wa_backup_info_free(b);
    fixture_done(&f);
}

/* A container of that kind, and about that backup, at the place of label_a's manifest. */
static void
put_manifest(fixture *f, const char *kind, const char *of, const char *text)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(65536);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(f->repo, label_a, "backup_manifest.zst");
    wa_json_set_string(facts, "kind", kind);
    wa_json_set_string(facts, "label", of);
    OK(wa_container_pack(text, strlen(text), 3, facts, NULL, &object, &err));
    put_raw(f, key, object.data, object.len);
}

static void
a_manifest_is_opened_for_its_bytes_and_only_when_it_is_this_backups(void **state)
{
    (void)state;
    static const char text[] = "{ \"PostgreSQL-Backup-Manifest-Version\": 1 }";
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    FAILS(wa_backup_open_manifest(f.repo, label_a, &ranges, &c, &err), WA_NOT_FOUND);
    FAILS(wa_backup_open_manifest(f.repo, "../x", &ranges, &c, &err), WA_INVALID);
    put_manifest(&f, "files", label_a, text);
    FAILS(wa_backup_open_manifest(f.repo, label_a, &ranges, &c, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "is of kind \"files\""));
    put_manifest(&f, "manifest", label_b, text);
    FAILS(wa_backup_open_manifest(f.repo, label_a, &ranges, &c, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, label_b));
    add_data(&f, label_a, "backup_manifest.zst");
    FAILS(wa_backup_open_manifest(f.repo, label_a, &ranges, &c, &err), WA_CORRUPT);
    assert_null(ranges);
    assert_null(c);
    put_manifest(&f, "manifest", label_a, text);
    OK(wa_backup_open_manifest(f.repo, label_a, &ranges, &c, &err));
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(65536);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&got);
    OK(wa_container_read_all(c, NULL, sink, &err));
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.data, text, got.len);
    assert_non_null(strstr(ranges->name, "backup_manifest.zst"));
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_have_one_shape),
        cmocka_unit_test(a_backup_is_read_back_as_it_was_committed),
        cmocka_unit_test(an_earlier_versions_backup_says_that_its_files_were_not_counted),
        cmocka_unit_test(a_list_tells_damaged_and_unfinished_backups_apart),
        cmocka_unit_test(no_failure_of_the_store_makes_a_list_shorter),
        cmocka_unit_test(a_commit_is_final_and_can_be_repeated),
        cmocka_unit_test(an_abandoned_run_leaves_nothing_and_cannot_commit),
        cmocka_unit_test(a_clean_up_takes_only_runs_to_which_nothing_was_added),
        cmocka_unit_test(a_backup_that_was_committed_while_it_was_cleaned_has_its_data),
        cmocka_unit_test(a_manifest_is_opened_for_its_bytes_and_only_when_it_is_this_backups),
        cmocka_unit_test(the_list_of_files_keeps_odd_names),
        cmocka_unit_test(a_path_that_leaves_the_data_directory_is_refused),
        cmocka_unit_test(a_hold_holds_until_it_is_released_even_when_damaged),
        cmocka_unit_test(of_a_commit_and_an_abandon_at_once_no_half_backup_remains),
        cmocka_unit_test(events_come_back_in_order_and_damage_hides_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_verify_mutations.c - verify finds every random change of an archive: of WAL that was stored
 * with checksums that fit it, and of the stored objects themselves.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "verify_fixture.h"
#include "wal_mutate.h"

#include <stdlib.h>

#define WHOLE 3
#define TAIL 300000

static void
put_archive(fixture *f)
{
    for (size_t i = 0; i < WHOLE; i++)
        put_segment(f, 1 + i, wal_bytes(f->wal) + i * SEGMENT);
    put_chunk(f, (1 + WHOLE) * (wa_lsn)SEGMENT, TAIL / 2);
    put_chunk(f, (1 + WHOLE) * (wa_lsn)SEGMENT + TAIL / 2, TAIL / 2);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(r.damage_count, 0);
    assert_int_equal(r.segments, WHOLE);
    assert_int_equal(r.chunks, 1);
}

static void
no_changed_wal_passes_as_verified(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    size_t changed = 0;
    put_archive(f);
    for (unsigned seed = 1; seed <= 600; seed++) {
        srandom(seed);
        wa_segno segno = 1 + (wa_segno)random() % WHOLE;
        const uint8_t *original = wal_bytes(f->wal) + (segno - 1) * SEGMENT;
        memcpy(bytes, original, SEGMENT);
        wal_mutate(bytes, SEGMENT, SEGMENT);
        if (wal_is_same(original, bytes, 0, SEGMENT))
            continue;
        replace_segment(f, segno, bytes);
        WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
        if (r.damage_count == 0)
            fail_msg("seed %u: a change of segment %u passed", seed, (unsigned)segno);
        replace_segment(f, segno, original);
        changed++;
    }
    assert_true(changed > 500);
}

static wa_status
take_key(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

/* Of a segment or a chunk: bits, a byte, the rest cut off, a stretch of zeroes. */
static size_t
damage(uint8_t *bytes, size_t len)
{
    size_t at = (size_t)random() % len;
    switch (random() % 4) {
    case 0:
    case 1:
        bytes[at] ^= (uint8_t)(1u << (random() % 8));
        return len;
    case 2:
        return at;
    default:
        memset(bytes + at, 0, len - at < 100 ? len - at : 100);
        return len;
    }
}

static void
no_changed_object_passes_as_verified(void **state)
{
    fixture *f = *state;
    wa_store *store = wa_repo_store(f->repo);
    put_archive(f);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *wal = wa_repo_key(f->repo, "wal/");
    WA_CLEANUP(wa_freep) char *tail = wa_repo_key(f->repo, "tail/");
    OK(wa_store_list(store, &(wa_list_options){.prefix = wal}, take_key, &keys, &f->err));
    OK(wa_store_list(store, &(wa_list_options){.prefix = tail}, take_key, &keys, &f->err));
    assert_int_equal(keys.count, WHOLE + 2);
    size_t changed = 0;
    for (unsigned seed = 1; seed <= 1000; seed++) {
        srandom(seed);
        const char *key = keys.items[(size_t)random() % keys.count];
        WA_CLEANUP(wa_buf_done)
        wa_buf was = WA_BUF_INIT(2 * SEGMENT), now = WA_BUF_INIT(2 * SEGMENT);
        WA_CLEANUP(wa_freep) char *meta = NULL;
        OK(wa_store_get(store, key, 0, UINT64_MAX, &was, &meta, &f->err));
        wa_buf_add(&now, was.data, was.len);
        size_t len = damage((uint8_t *)now.data, now.len);
        if (len == was.len && memcmp(now.data, was.data, len) == 0)
            continue;
        wa_body body = {.data = now.data, .len = len, .fd = -1};
        OK(wa_store_put(store, key, &body, meta, WA_PUT_REPLACE, &f->err));
        WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
        if (r.damage_count == 0)
            fail_msg("seed %u: a change of \"%s\" passed", seed, key);
        body = (wa_body){.data = was.data, .len = was.len, .fd = -1};
        OK(wa_store_put(store, key, &body, meta, WA_PUT_REPLACE, &f->err));
        changed++;
    }
    assert_true(changed > 900);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(no_changed_wal_passes_as_verified),
        T(no_changed_object_passes_as_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

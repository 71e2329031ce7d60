/*
 * tests/unit/audit/verify_fixture.h - an archive in memory, and verify over it.
 *
 * Included by verify's tests behind cmocka.h.
 */
#ifndef WA_TESTS_VERIFY_FIXTURE_H
#define WA_TESTS_VERIFY_FIXTURE_H

#include "wal_builder.h"

#include "verify_internal.h"

#include "walagent/audit/window.h"
#include "walagent/repo/backup_object.h"
#include "walagent/repo/index.h"
#include "walagent/repo/tail.h"
#include "walagent/store/drivers.h"

#include <string.h>

#define SEGMENT (1024u * 1024)
#define SYSTEM 7000000000000000001u
#define SEGMENTS 70 /* more than two spans of 32 */

typedef struct fixture {
    wa_repo *repo;
    wa_branch branch;
    wal_builder *wal;
    wa_error err;
} fixture;

#define OK(call)                                                                                   \
    do {                                                                                           \
        wa_status s_ = (call);                                                                     \
        if (s_ != WA_OK)                                                                           \
            fail_msg("%s", f->err.message);                                                        \
    } while (0)

static inline void
put_segment(fixture *f, wa_segno segno, const void *bytes)
{
    wa_put_outcome outcome;
    OK(wa_wal_put(f->repo, &f->branch, segno, bytes, NULL, 1, NULL, true, &outcome, &f->err));
}

static inline void
put_segments(fixture *f, size_t except)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        if (i != except)
            put_segment(f, 1 + i, wal_bytes(f->wal) + i * SEGMENT);
}

static inline int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_cluster identity = {
        .system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT, .since = wa_time_now()};
    bool created = false;
    OK(wa_repo_of_store(wa_store_mem_new(), "main", 1, &f->repo, &f->err));
    OK(wa_repo_init(f->repo, &identity, false, &created, &f->err));
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->wal = wal_builder_new(NULL);
    /* Records that cross pages, segments and spans. */
    while (wal_size(f->wal) < SEGMENTS * (size_t)SEGMENT) {
        wal_add_commit(f->wal, 700, 1000000);
        wal_add_noise(f->wal, 701, 200000);
    }
    *state = f;
    return 0;
}

static inline int
teardown(void **state)
{
    fixture *f = *state;
    wal_builder_free(f->wal);
    wa_repo_free(f->repo);
    wa_freep(&f);
    return 0;
}

static inline wa_verify_result
verify(fixture *f, bool since_verified)
{
    wa_verify_result r = {0};
    wa_verify_options options = {
        .repo = f->repo, .wal = true, .since_verified = since_verified, .jobs = 3};
    OK(wa_verify_run(&options, &r, &f->err));
    return r;
}

static inline size_t
count_kind(const wa_verify_result *r, const char *kind)
{
    size_t n = 0;
    for (size_t i = 0; i < r->damage_count; i++)
        n += strcmp(r->damage[i].kind, kind) == 0;
    return n;
}

static inline void
add_backup_of(fixture *f, const wa_branch *branch, wa_lsn start, wa_lsn end)
{
    wa_backup_info *b = wa_backup_info_new();
    b->start_time = wa_time_now();
    b->end_time = b->start_time + 1000000;
    wa_backup_new_label(false, b->start_time, b->label);
    b->branch = b->end_branch = *branch;
    b->start_lsn = start;
    b->end_lsn = end;
    b->major = 15;
    b->system_identifier = SYSTEM;
    b->segment_size = SEGMENT;
    OK(wa_backup_begin(f->repo, b, &f->err));
    OK(wa_backup_commit(f->repo, b, &f->err));
    wa_backup_info_free(b);
}

static inline void
add_backup(fixture *f, wa_lsn start, wa_lsn end)
{
    add_backup_of(f, &f->branch, start, end);
}

/* The object's bytes are others now, with facts and checksums that fit them. */
static inline void
replace_segment(fixture *f, wa_segno segno, const void *bytes)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, segno);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(wa_repo_store(f->repo), &keys, &f->err));
    put_segment(f, segno, bytes);
}

static inline void
put_chunk(fixture *f, wa_lsn start, size_t len)
{
    OK(wa_tail_put(f->repo, &f->branch, 1, start, start, wal_bytes(f->wal) + (start - SEGMENT), len,
                   NULL, true, &f->err));
}

#endif

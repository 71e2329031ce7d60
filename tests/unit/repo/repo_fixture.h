/*
 * tests/unit/repo/repo_fixture.h - a repository over the mem store, with faults on demand.
 *
 * Included by the tests of this directory behind cmocka.h.
 */
#ifndef WA_TESTS_REPO_FIXTURE_H
#define WA_TESTS_REPO_FIXTURE_H

#include "repo_internal.h"

#include "walagent/repo/branch.h"
#include "walagent/repo/tail.h"
#include "walagent/repo/wal_object.h"
#include "walagent/store/drivers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYSTEM_ID UINT64_C(7412345678901234567)
#define SEGMENT (1024u * 1024)
#define OK(call) assert_ok_((call), &err, #call, __LINE__)
#define FAILS(call, expected) assert_fails_((call), (expected), &err, #call, __LINE__)

static inline void
assert_fails_(wa_status status, wa_status expected, const wa_error *err, const char *call, int line)
{
    if (status != expected || err->status != expected)
        fail_msg("line %d: %s: %s instead of %s: %s", line, call, wa_status_name(status),
                 wa_status_name(expected), err->message);
}

static inline void
assert_ok_(wa_status status, const wa_error *err, const char *call, int line)
{
    if (status != WA_OK)
        fail_msg("line %d: %s: %s: %s", line, call, wa_status_name(status), err->message);
}

typedef struct fixture {
    wa_repo *repo;
    wa_store *store; /* the fault store; the repo's */
    wa_branch first; /* timeline 1 */
} fixture;

static inline wa_cluster
fixture_identity(void)
{
    return (wa_cluster){.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
}

static inline void
fixture_bare(fixture *f)
{
    wa_error err = WA_ERROR_INIT;
    f->store = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(f->store, "main", 1, &f->repo, &err));
    f->first = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
}

static inline void
fixture_new(fixture *f)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = fixture_identity();
    bool created = false;
    fixture_bare(f);
    OK(wa_repo_init(f->repo, &identity, false, &created, &err));
    assert_true(created);
}

static inline void
fixture_done(fixture *f)
{
    wa_repo_free(f->repo);
}

static inline void
no_faults(fixture *f)
{
    wa_store_fault_set(f->store, "any", 0, 0, WA_FAULT_FAIL);
}

/* Put bytes under a key as they are. */
static inline void
put_raw(fixture *f, const char *key, const void *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    wa_body body = {.data = data, .len = len, .fd = -1};
    OK(wa_store_put(f->store, key, &body, NULL, WA_PUT_REPLACE, &err));
}

static inline void
drop(fixture *f, const char *key)
{
    wa_error err = WA_ERROR_INIT;
    OK(wa_object_delete(f->repo, key, &err));
}

static inline size_t
count_keys(fixture *f, const char *below)
{
    wa_error err = WA_ERROR_INIT;
    wa_strv keys = {0};
    char *prefix = wa_repo_key(f->repo, "%s", below);
    OK(wa_repo_list(f->repo, prefix, false, NULL, &keys, &err));
    size_t count = keys.count;
    wa_strv_done(&keys);
    free(prefix);
    return count;
}

/* Bytes that depend on salt; compressible. A new buffer of len. */
static inline char *
pattern(uint32_t salt, size_t len)
{
    char *data = wa_malloc(len);
    uint32_t x = salt * 2654435761u + 1;
    for (size_t i = 0; i < len; i++) {
        if (i % 16 == 0)
            x = x * 1664525u + 1013904223u;
        data[i] = (char)(x >> 24);
    }
    return data;
}

static inline wa_wal_facts
facts_at(wa_time t, uint64_t commits)
{
    wa_wal_facts f;
    wa_wal_facts_init(&f);
    f.records = commits * 3;
    f.commits = commits;
    f.min_time = t;
    f.max_time = t + 10;
    f.last_time = t + 5;
    f.min_xid = 700;
    f.max_xid = 700 + (uint32_t)commits;
    return f;
}

static inline void
put_segment(fixture *f, const wa_branch *branch, wa_segno segno, uint32_t salt)
{
    wa_error err = WA_ERROR_INIT;
    char *data = pattern(salt, SEGMENT);
    wa_wal_facts facts = facts_at((wa_time)segno * 1000, 1 + segno % 5);
    wa_put_outcome outcome;
    OK(wa_wal_put(f->repo, branch, segno, data, NULL, 1, &facts, true, &outcome, &err));
    free(data);
}

static inline uint64_t
requests(const fixture *f)
{
    return wa_store_requests(f->store, "put") + wa_store_requests(f->store, "get") +
           wa_store_requests(f->store, "head") + wa_store_requests(f->store, "list") +
           wa_store_requests(f->store, "delete");
}

static inline uint64_t
next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* A segment arrives whole, with the next one's first chunk, and its chunks go. */
static inline void
replace_chunks_by_whole(fixture *f, wa_segno segno, const void *bytes)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_wal_facts facts;
    wa_lsn next = (segno + 1) * SEGMENT;
    wa_wal_facts_init(&facts);
    OK(wa_wal_put(f->repo, &f->first, segno, bytes, NULL, 1, &facts, true, &outcome, &err));
    OK(wa_tail_put(f->repo, &f->first, 1, next, next, bytes, 50, NULL, true, &err));
    OK(wa_tail_remove(f->repo, &f->first, segno, &err));
}

#endif

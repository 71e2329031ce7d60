/*
 * tests/unit/wal/hook_fixture.h - a repository over the fault and mem stores and a data directory.
 *
 * Included by the tests of push and get behind cmocka.h.
 */
#ifndef WA_TESTS_HOOK_FIXTURE_H
#define WA_TESTS_HOOK_FIXTURE_H

#include "wal_builder.h"

#include "walagent/base/file.h"
#include "walagent/repo/branch.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"
#include "walagent/store/drivers.h"
#include "walagent/wal/get.h"
#include "walagent/wal/push.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYSTEM UINT64_C(7000000000000000001)
#define SEGMENT (1024u * 1024)
#define OK(call) assert_status_((call), WA_OK, &err, #call, __LINE__)
#define FAILS(call, expected) assert_status_((call), (expected), &err, #call, __LINE__)

static inline void
assert_status_(wa_status status, wa_status expected, const wa_error *err, const char *call,
               int line)
{
    if (status != expected)
        fail_msg("line %d: %s: %s instead of %s: %s", line, call, wa_status_name(status),
                 wa_status_name(expected), err->message);
}

typedef struct fixture {
    wa_repo *repo;
    wa_store *store; /* the fault store; the repo's */
    wa_branch first; /* timeline 1 */
    char dir[64];    /* PGDATA */
    char wal_dir[72];
    wa_push_options push;
    wa_get_options get;
} fixture;

static inline int
fixture_setup(void **state)
{
    wa_error err = WA_ERROR_INIT;
    fixture *f = wa_calloc(1, sizeof *f);
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    f->store = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(f->store, "main", 1, &f->repo, &err));
    OK(wa_repo_init(f->repo, &identity, false, &created, &err));
    OK(wa_repo_load(f->repo, &err));
    f->first = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    snprintf(f->dir, sizeof f->dir, "/tmp/wa-hook-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->wal_dir, sizeof f->wal_dir, "%s/pg_wal", f->dir);
    OK(wa_mkdir_p(f->wal_dir, 0700, &err));
    f->push = (wa_push_options){.repo = f->repo};
    f->get = (wa_get_options){.repo = f->repo, .data_dir = f->dir};
    *state = f;
    return 0;
}

static inline int
fixture_teardown(void **state)
{
    wa_error err = WA_ERROR_INIT;
    fixture *f = *state;
    OK(wa_remove_tree(f->dir, &err));
    wa_repo_free(f->repo);
    free(f);
    return 0;
}

/* Pushes go into a directory from now on; the repo is the caller's. */
static inline wa_repo *
use_directory(fixture *f, uint64_t segment_size)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = segment_size};
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s/archive", f->dir);
    wa_store_options options = {.url = url};
    wa_repo *repo = NULL;
    wa_store *store = NULL;
    bool created = false;
    OK(wa_store_open(&options, &store, &err));
    OK(wa_repo_of_store(store, "main", 1, &repo, &err));
    OK(wa_repo_init(repo, &identity, false, &created, &err));
    OK(wa_repo_load(repo, &err));
    f->push.repo = repo;
    return repo;
}

/* pg_wal/<name>, replaced. */
static inline char *
put_file(fixture *f, const char *name, const void *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    char *path = wa_path_join(f->wal_dir, name);
    OK(wa_file_write(path, data, len, 0600, WA_WRITE_REPLACE, &err));
    return path;
}

static inline wa_status
push(fixture *f, const char *name, const void *data, size_t len, wa_push_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = put_file(f, name, data, len);
    return wa_push_file(&f->push, path, ret, err);
}

static inline void
put_whole(fixture *f, const wa_branch *branch, wa_segno segno, const void *data)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    OK(wa_wal_put(f->repo, branch, segno, data, NULL, 1, NULL, true, &outcome, &err));
}

/* WAL of timeline 1 from segment 3 on that fills it and begins the next one. */
static inline wal_builder *
full_segment(uint32_t xid)
{
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(b, xid, 1000);
    wal_fill_segment(b);
    return b;
}

static inline wa_status
count_one(void *arg, const wa_object *object, wa_error *err)
{
    (void)object;
    (void)err;
    (*(size_t *)arg)++;
    return WA_OK;
}

static inline size_t
count_keys(fixture *f, const char *below)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(f->repo, "%s", below);
    wa_list_options options = {.prefix = prefix};
    size_t count = 0;
    OK(wa_store_list(f->store, &options, count_one, &count, &err));
    return count;
}

#endif

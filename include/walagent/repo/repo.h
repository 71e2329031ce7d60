/*
 * walagent/repo/repo.h - one cluster's part of an object store: identity and keys.
 *
 *   <root>/<cluster>/incarnation/<N8>.json          numbered, created once each
 *   <root>/<cluster>/<system identifier>/...        everything else (keys below)
 *
 * A wa_repo is opened without touching the network; wa_repo_load() reads the newest incarnation and
 * must have succeeded before anything that needs the identity (asserted). Threads: after load, all
 * calls from any thread. Errors: NOT_FOUND (load: not initialised, with the hint to run init),
 * CONFLICT (another cluster's), UNSUPPORTED (a newer format), and the store's.
 */
#ifndef WALAGENT_REPO_REPO_H
#define WALAGENT_REPO_REPO_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/thread.h"
#include "walagent/base/time.h"
#include "walagent/pg/lsn.h"
#include "walagent/store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define WA_REPO_FORMAT 1
#define WA_BRANCH_TEXT 24

/* What init records. */
typedef struct wa_cluster {
    uint64_t system_identifier;
    int major;
    uint64_t segment_size;
    uint64_t incarnation; /* 1, 2, ... (pg_upgrade, or a new cluster accepted by init) */
    wa_time since;
    bool single_writer; /* the store has no conditional PUT (FORMATS: a second agent is refused) */
} wa_cluster;

/* A further repository: the same bytes under the same keys (store/mirror.h). */
typedef struct wa_repo_mirror {
    const char *name;
    wa_store_options store;
} wa_repo_mirror;

typedef struct wa_repo_options {
    wa_store_options store;
    const wa_repo_mirror *mirrors; /* may be NULL */
    size_t mirror_count;
    const char *name;        /* section, for messages: "repository", "repository offsite" */
    const char *cluster;     /* [cluster] name: [a-z0-9_-]{1,63} */
    int level;               /* zstd level of WAL objects */
    const char *scratch_dir; /* for objects above 16 MiB compressed; NULL: $TMPDIR or /tmp */
} wa_repo_options;

typedef struct wa_repo wa_repo;
wa_status wa_repo_open(const wa_repo_options *options, wa_repo **ret, wa_error *err) WA_MUST_CHECK;
/* Takes store (tests). */
wa_status wa_repo_of_store(wa_store *store, const char *cluster, int level, wa_repo **ret,
                           wa_error *err) WA_MUST_CHECK;
void wa_repo_free(wa_repo *repo);
WA_DEFINE_CLEANUP(wa_repo, wa_repo_free)
wa_status wa_repo_load(wa_repo *repo, wa_error *err) WA_MUST_CHECK;
bool wa_repo_loaded(const wa_repo *repo);
/* With mirrors, and before load: who does not say so may acknowledge on what it reads, and finds
 * only what every repository has (a strict store). Who only reads is served by a mirror where the
 * main repository fails; listings come from it only if lists is true. */
void wa_repo_only_read(wa_repo *repo, bool lists);
/* A loaded handle of member i alone (store/mirror.h), which lives no longer than repo. */
wa_repo *wa_repo_member(wa_repo *repo, size_t i);
/* Before "not there" is said of an object: is the repository itself there still? A directory whose
 * file system was unmounted and an emptied bucket hold nothing either: UNAVAILABLE. One request. */
wa_status wa_repo_still_there(wa_repo *repo, wa_error *err) WA_MUST_CHECK;
/*
 * Create or check the entry. The same identity: OK, *ret_created false. Another system identifier,
 * major or segment size: CONFLICT that names both, unless accept_new (then the next incarnation).
 * Two inits at once: one creates, the other checks. Probes the store.
 */
wa_status wa_repo_init(wa_repo *repo, const wa_cluster *identity, bool accept_new,
                       bool *ret_created, wa_error *err) WA_MUST_CHECK;
/* All incarnations, oldest first; the array is the caller's. */
wa_status wa_repo_incarnations(wa_repo *repo, wa_cluster **ret, size_t *ret_count,
                               wa_error *err) WA_MUST_CHECK;
const wa_cluster *wa_repo_cluster(const wa_repo *repo);
wa_store *wa_repo_store(wa_repo *repo);
const char *wa_repo_name(const wa_repo *repo);
const char *wa_repo_cluster_name(const wa_repo *repo);
int wa_repo_level(const wa_repo *repo);
const char *wa_repo_scratch_dir(const wa_repo *repo);
/* "host-pid-random" of this process: the writer id in public facts. */
const char *wa_repo_writer(const wa_repo *repo);
/* <cluster>/<system identifier>/<rest>; a new string. */
char *wa_repo_key(const wa_repo *repo, const char *fmt, ...) WA_PRINTF(2, 3);

/* A branch: a timeline of which several may exist. Text form "00000002-1a2b3c4d" (and "-2" ... for
 * later writers with other bytes). */
typedef struct wa_branch {
    wa_tli tli;
    char id[13]; /* "1a2b3c4d" or "1a2b3c4d-2" */
} wa_branch;
bool wa_branch_eq(const wa_branch *a, const wa_branch *b);
char *wa_branch_format(const wa_branch *b, char out[static WA_BRANCH_TEXT]);
bool wa_branch_parse(const char *text, wa_branch *ret);

#endif

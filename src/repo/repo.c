/*
 * src/repo/repo.c - one cluster's part of an object store: identity, keys, branch names.
 */
#include "walagent/repo/repo.h"

#include "incarnation_internal.h"
#include "repo_internal.h"

#include "walagent/store/mirror.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct wa_repo {
    wa_store *store;
    char *name;
    char *cluster_name;
    char *scratch_dir;
    int level;
    char writer[96];
    bool loaded;
    bool only_reads, lists_anywhere, borrows_store;
    wa_cluster cluster;
    atomic_uint_fast64_t lineage_seen;
    wa_index_cache *index_cache;
};

static bool
cluster_name_valid(const char *name)
{
    size_t len = name == NULL ? 0 : strlen(name);
    return len >= 1 && len <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static void
make_writer(char *out, size_t size)
{
    char host[64] = "unknown";
    if (gethostname(host, sizeof host - 1) != 0)
        snprintf(host, sizeof host, "unknown");
    host[sizeof host - 1] = '\0';
    for (char *p = host; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && *p != '.' && *p != '-')
            *p = '_';
    }
    uint32_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt)
        salt = (uint32_t)wa_mono_now_us();
    snprintf(out, size, "%s-%ld-%08x", host, (long)getpid(), salt);
}

static wa_status
repo_new(const char *name, const char *cluster, int level, const char *scratch_dir, wa_repo **ret,
         wa_error *err)
{
    if (!cluster_name_valid(cluster)) {
        wa_error_set(err, WA_INVALID, "invalid cluster name \"%s\"",
                     cluster == NULL ? "" : cluster);
        return wa_error_hint(err, "Use 1 to 63 characters of a-z, 0-9, '_' and '-'.");
    }
    if (level < 0 || level > 19)
        return wa_error_set(err, WA_INVALID, "compression level %d is not between 1 and 19", level);
    const char *tmp = getenv("TMPDIR");
    wa_repo *repo = wa_calloc(1, sizeof *repo);
    repo->name = wa_strdup(name == NULL ? "repository" : name);
    repo->cluster_name = wa_strdup(cluster);
    repo->level = level == 0 ? 3 : level;
    repo->index_cache = wa_index_cache_new();
    repo->scratch_dir = wa_strdup(scratch_dir != NULL ? scratch_dir
                                  : wa_str_empty(tmp) ? "/tmp"
                                                      : tmp);
    make_writer(repo->writer, sizeof repo->writer);
    *ret = repo;
    return WA_OK;
}

/* Takes main_store, whatever comes of it. */
static wa_status
open_mirrors(const wa_repo_options *options, wa_store *main_store, wa_store **ret, wa_error *err)
{
    wa_status status = WA_OK;
    size_t count = 0;
    WA_CLEANUP(wa_freep) wa_mirror *mirrors = wa_calloc(options->mirror_count, sizeof *mirrors);
    for (; status == WA_OK && count < options->mirror_count; count++) {
        mirrors[count].name = options->mirrors[count].name;
        status = wa_store_open(&options->mirrors[count].store, &mirrors[count].store, err);
        if (status != WA_OK)
            (void)wa_error_wrap(err, "could not open repository %s", mirrors[count].name);
    }
    if (status == WA_OK) {
        *ret = wa_store_mirror_new(main_store, mirrors, count);
        return WA_OK;
    }
    for (size_t i = 0; i < count; i++)
        wa_store_free(mirrors[i].store);
    wa_store_free(main_store);
    return status;
}

wa_status
wa_repo_open(const wa_repo_options *options, wa_repo **ret, wa_error *err)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(repo_new(options->name, options->cluster, options->level, options->scratch_dir, &repo,
                    err));
    if (wa_store_open(&options->store, &repo->store, err) != WA_OK)
        return wa_error_wrap(err, "could not open %s", repo->name);
    if (options->mirror_count > 0)
        WA_TRY(open_mirrors(options, WA_TAKE(repo->store), &repo->store, err));
    *ret = WA_TAKE(repo);
    return WA_OK;
}

wa_status
wa_repo_of_store(wa_store *store, const char *cluster, int level, wa_repo **ret, wa_error *err)
{
    wa_repo *repo = NULL;
    if (repo_new(NULL, cluster, level, NULL, &repo, err) != WA_OK) {
        wa_store_free(store);
        return err->status;
    }
    repo->store = store;
    *ret = repo;
    return WA_OK;
}

void
wa_repo_free(wa_repo *repo)
{
    if (repo == NULL)
        return;
    if (!repo->borrows_store)
        wa_store_free(repo->store);
    wa_index_cache_free(repo->index_cache);
    free(repo->name);
    free(repo->cluster_name);
    free(repo->scratch_dir);
    free(repo);
}

wa_index_cache *
wa_repo_index_cache(wa_repo *repo)
{
    return repo->index_cache;
}

bool
wa_repo_loaded(const wa_repo *repo)
{
    return repo->loaded;
}

const wa_cluster *
wa_repo_cluster(const wa_repo *repo)
{
    WA_ASSERT(repo->loaded);
    return &repo->cluster;
}

void
wa_repo_adopt(wa_repo *repo, const wa_cluster *cluster)
{
    repo->cluster = *cluster;
    repo->loaded = true;
    wa_store_set_conditional(repo->store, !cluster->single_writer);
    if (wa_store_members(repo->store) == 1)
        return;
    WA_CLEANUP(wa_freep) char *entry = wa_incarnation_key(repo, cluster->incarnation);
    wa_store_mirror_require(repo->store, entry);
    if (!repo->only_reads)
        wa_store_mirror_be_strict(repo->store);
}

void
wa_repo_only_read(wa_repo *repo, bool lists)
{
    WA_ASSERT(!repo->loaded);
    repo->only_reads = true;
    if (lists)
        wa_store_mirror_list_anywhere(repo->store);
}

wa_repo *
wa_repo_member(wa_repo *repo, size_t i)
{
    wa_error err = WA_ERROR_INIT;
    wa_repo *member = NULL;
    WA_ASSERT(repo->loaded);
    wa_status status =
        repo_new(repo->name, repo->cluster_name, repo->level, repo->scratch_dir, &member, &err);
    WA_ASSERT(status == WA_OK);
    member->store = wa_store_member(repo->store, i);
    member->borrows_store = true;
    member->cluster = repo->cluster;
    member->loaded = true;
    return member;
}

wa_store *
wa_repo_store(wa_repo *repo)
{
    return repo->store;
}

const char *
wa_repo_name(const wa_repo *repo)
{
    return repo->name;
}

const char *
wa_repo_cluster_name(const wa_repo *repo)
{
    return repo->cluster_name;
}

int
wa_repo_level(const wa_repo *repo)
{
    return repo->level;
}

const char *
wa_repo_scratch_dir(const wa_repo *repo)
{
    return repo->scratch_dir;
}

const char *
wa_repo_writer(const wa_repo *repo)
{
    return repo->writer;
}

uint64_t
wa_repo_lineage_seen(const wa_repo *repo)
{
    return atomic_load(&repo->lineage_seen);
}

void
wa_repo_lineage_saw(wa_repo *repo, uint64_t number)
{
    uint_fast64_t seen = atomic_load(&repo->lineage_seen);
    while (seen < number && !atomic_compare_exchange_weak(&repo->lineage_seen, &seen, number))
        ;
}

char *
wa_repo_key(const wa_repo *repo, const char *fmt, ...)
{
    char rest[1024];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(rest, sizeof rest, fmt, args);
    va_end(args);
    WA_ASSERT(len >= 0 && (size_t)len < sizeof rest);
    return wa_format("%s/%llu/%s", repo->cluster_name,
                     (unsigned long long)wa_repo_cluster(repo)->system_identifier, rest);
}

bool
wa_branch_eq(const wa_branch *a, const wa_branch *b)
{
    return a->tli == b->tli && strcmp(a->id, b->id) == 0;
}

char *
wa_branch_format(const wa_branch *b, char out[static WA_BRANCH_TEXT])
{
    snprintf(out, WA_BRANCH_TEXT, "%08X-%s", b->tli, b->id);
    return out;
}

/* "1a2b3c4d", or "1a2b3c4d-2" up to "1a2b3c4d-999". */
static bool
branch_id_valid(const char *id)
{
    if (strspn(id, "0123456789abcdef") < 8)
        return false;
    if (id[8] == '\0')
        return true;
    const char *number = id + 9;
    size_t digits = strlen(number);
    return id[8] == '-' && digits >= 1 && digits <= 3 && strspn(number, "0123456789") == digits &&
           number[0] != '0' && strcmp(number, "1") != 0;
}

bool
wa_branch_parse(const char *text, wa_branch *ret)
{
    uint64_t tli = 0;
    if (strlen(text) < 17 || strspn(text, "0123456789ABCDEF") < 8 || text[8] != '-' ||
        !wa_parse_hex(text, 8, &tli) || tli == 0 || !branch_id_valid(text + 9))
        return false;
    wa_branch branch = {.tli = (wa_tli)tli};
    snprintf(branch.id, sizeof branch.id, "%s", text + 9);
    *ret = branch;
    return true;
}

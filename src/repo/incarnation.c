/*
 * src/repo/incarnation.c - the cluster's entry: <cluster>/incarnation/<N8>.json, numbered, created
 * once each; the highest number is valid.
 *
 *   {"v":1,"format":1,"system_identifier":"<decimal>","major":15,"segment_size":16777216,
 *    "since":"<RFC 3339>","single_writer":false,"writer":"<host-pid-random>"}
 */
#include "incarnation_internal.h"
#include "repo_internal.h"

#include <stdlib.h>
#include <string.h>

static json_t *
cluster_to_json(const wa_repo *repo, const wa_cluster *c)
{
    json_t *json = json_object();
    wa_json_set_i64(json, "v", 1);
    wa_json_set_i64(json, "format", WA_REPO_FORMAT);
    WA_CLEANUP(wa_freep) char *id = wa_format("%llu", (unsigned long long)c->system_identifier);
    wa_json_set_string(json, "system_identifier", id);
    wa_json_set_i64(json, "major", c->major);
    wa_json_set_u64(json, "segment_size", c->segment_size);
    wa_repo_json_set_time(json, "since", c->since);
    wa_json_set_bool(json, "single_writer", c->single_writer);
    wa_json_set_string(json, "writer", wa_repo_writer(repo));
    return json;
}

static wa_status
cluster_from_json(const json_t *json, const char *key, wa_cluster *ret, wa_error *err)
{
    wa_cluster c = {0};
    int64_t format = 0, major = 0;
    WA_TRY(wa_json_get_i64(json, "format", key, &format, err));
    if (format > WA_REPO_FORMAT) {
        wa_error_set(err, WA_UNSUPPORTED,
                     "\"%s\" has repository format %lld, this program knows %d", key,
                     (long long)format, WA_REPO_FORMAT);
        return wa_error_hint(err, "Upgrade walagent on this host.");
    }
    WA_TRY(wa_json_get_u64(json, "system_identifier", key, &c.system_identifier, err));
    WA_TRY(wa_json_get_i64(json, "major", key, &major, err));
    WA_TRY(wa_json_get_u64(json, "segment_size", key, &c.segment_size, err));
    WA_TRY(wa_repo_json_time(json, "since", key, &c.since, err));
    WA_TRY(wa_json_get_bool(json, "single_writer", key, &c.single_writer, err));
    c.major = (int)major;
    if (c.system_identifier == 0 || major < 1 || major > 1000 ||
        !wa_segment_size_valid(c.segment_size))
        return wa_error_set(err, WA_CORRUPT,
                            "\"%s\" has an impossible identity: system identifier %llu, major "
                            "%lld, segment size %llu",
                            key, (unsigned long long)c.system_identifier, (long long)major,
                            (unsigned long long)c.segment_size);
    *ret = c;
    return WA_OK;
}

static wa_status
read_incarnation(wa_repo *repo, const char *key, wa_cluster *ret, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_object_get_json(repo, key, &json, err));
    return cluster_from_json(json, key, ret, err);
}

wa_status
wa_repo_incarnations(wa_repo *repo, wa_cluster **ret, size_t *ret_count, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_format("%s/incarnation/", wa_repo_cluster_name(repo));
    WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
    WA_CLEANUP(wa_freep) wa_cluster *all = wa_calloc(keys.count + 1, sizeof *all);
    size_t count = 0;
    for (size_t i = 0; i < keys.count; i++) {
        uint64_t number = 0;
        if (!wa_key_number(keys.items[i], ".json", &number))
            continue;
        WA_TRY(read_incarnation(repo, keys.items[i], &all[count], err));
        all[count++].incarnation = number;
    }
    *ret = WA_TAKE(all);
    *ret_count = count;
    return WA_OK;
}

/* incarnation 0: there is none. */
static wa_status
newest_incarnation(wa_repo *repo, wa_cluster *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_format("%s/incarnation/", wa_repo_cluster_name(repo));
    WA_TRY(wa_repo_list(repo, prefix, false, NULL, &keys, err));
    wa_cluster c = {0};
    for (size_t i = keys.count; i > 0; i--) {
        uint64_t number = 0;
        if (!wa_key_number(keys.items[i - 1], ".json", &number))
            continue;
        WA_TRY(read_incarnation(repo, keys.items[i - 1], &c, err));
        c.incarnation = number;
        break;
    }
    *ret = c;
    return WA_OK;
}

wa_status
wa_repo_load(wa_repo *repo, wa_error *err)
{
    wa_cluster c = {0};
    WA_TRY(newest_incarnation(repo, &c, err));
    if (c.incarnation == 0) {
        wa_error_set(err, WA_NOT_FOUND, "%s has no entry for cluster \"%s\"", wa_repo_name(repo),
                     wa_repo_cluster_name(repo));
        return wa_error_hint(err, "Run \"walagent init\" once.");
    }
    wa_repo_adopt(repo, &c);
    return WA_OK;
}

char *
wa_incarnation_key(const wa_repo *repo, uint64_t incarnation)
{
    return wa_format("%s/incarnation/%08llX.json", wa_repo_cluster_name(repo),
                     (unsigned long long)incarnation);
}

wa_status
wa_repo_still_there(wa_repo *repo, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_incarnation_key(repo, wa_repo_cluster(repo)->incarnation);
    bool there = false;
    WA_TRY(wa_object_exists(wa_repo_store(repo), key, &there, err));
    if (there)
        return WA_OK;
    wa_error_set(err, WA_UNAVAILABLE, "%s has no entry for cluster \"%s\" any more",
                 wa_repo_name(repo), wa_repo_cluster_name(repo));
    return wa_error_hint(err, "Is its file system still mounted, and is it the right bucket?");
}

static bool
same_identity(const wa_cluster *a, const wa_cluster *b)
{
    return a->system_identifier == b->system_identifier && a->major == b->major &&
           a->segment_size == b->segment_size;
}

static wa_status
refuse(const wa_repo *repo, const wa_cluster *there, const wa_cluster *here, bool accept_new,
       wa_error *err)
{
    wa_error_set(err, WA_CONFLICT,
                 "cluster \"%s\" in %s has system identifier %llu, major %d, segment size %llu; "
                 "the server has %llu, %d, %llu",
                 wa_repo_cluster_name(repo), wa_repo_name(repo),
                 (unsigned long long)there->system_identifier, there->major,
                 (unsigned long long)there->segment_size,
                 (unsigned long long)here->system_identifier, here->major,
                 (unsigned long long)here->segment_size);
    if (accept_new)
        return wa_error_hint(err, "The segment size of one system identifier can't change within "
                                  "an archive; give it another [cluster] name.");
    return wa_error_hint(
        err, "After pg_upgrade, or to accept this server as the cluster from now "
             "on, run \"walagent init --accept-new-cluster\"; else correct [cluster] name "
             "or conninfo.");
}

static wa_status
create_incarnation(wa_repo *repo, const wa_cluster *c, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_incarnation_key(repo, c->incarnation);
    WA_CLEANUP(wa_json_freep) json_t *json = cluster_to_json(repo, c);
    return wa_object_put_json(repo, key, "incarnation", json, err);
}

wa_status
wa_repo_init(wa_repo *repo, const wa_cluster *identity, bool accept_new, bool *ret_created,
             wa_error *err)
{
    WA_ASSERT(identity->system_identifier != 0 && wa_segment_size_valid(identity->segment_size));
    WA_CLEANUP(wa_freep) char *prefix = wa_format("%s/probe/", wa_repo_cluster_name(repo));
    bool conditional = false;
    if (wa_store_probe(wa_repo_store(repo), prefix, &conditional, err) != WA_OK)
        return wa_error_wrap(err, "could not probe %s", wa_repo_name(repo));
    for (int attempt = 0; attempt < 16; attempt++) {
        wa_cluster there = {0};
        WA_TRY(newest_incarnation(repo, &there, err));
        if (there.incarnation != 0)
            WA_TRY(wa_mirrors_init(repo, &there, err));
        if (there.incarnation != 0 && same_identity(&there, identity)) {
            wa_repo_adopt(repo, &there);
            *ret_created = false;
            return WA_OK;
        }
        bool other_size = there.system_identifier == identity->system_identifier &&
                          there.segment_size != identity->segment_size;
        if (there.incarnation != 0 && (!accept_new || other_size))
            return refuse(repo, &there, identity, accept_new, err);
        wa_cluster mine = *identity;
        mine.incarnation = there.incarnation + 1;
        mine.since = wa_time_now();
        mine.single_writer = !conditional;
        wa_status status = create_incarnation(repo, &mine, err);
        if (status == WA_OK) {
            wa_repo_adopt(repo, &mine);
            *ret_created = true;
            return WA_OK;
        }
        if (status != WA_EXISTS)
            return status;
        wa_error_clear(err); /* another init was faster: look at what it created */
    }
    return wa_error_set(err, WA_UNAVAILABLE,
                        "could not create the entry of cluster \"%s\": others kept creating it",
                        wa_repo_cluster_name(repo));
}

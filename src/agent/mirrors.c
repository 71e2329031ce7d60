/*
 * mirrors.c - the agent's own look at its mirrors: once it has reached the repository, and every
 * few hours, it compares them with the main one. It copies the few objects that a crash can have
 * left in the main one alone; what is more is for `walagent mirror`.
 *
 * A mirror that is incomplete is compared again after ten minutes, and each time that nothing has
 * changed after twice as long. Meanwhile a request or two every ten minutes tell whether somebody
 * copies: then it is compared at once.
 */
#include "agent_internal.h"

#include "walagent/base/log.h"
#include "walagent/store/mirror.h"

#include <inttypes.h>

#define LOOK_MS 1000
#define RETRY_MS 60000
#define AGAIN_MS (6u * 3600 * 1000)
#define INCOMPLETE_MS (10u * 60 * 1000) /* a person may be copying */
#define INCOMPLETE_MOST_MS (3u * 3600 * 1000)
#define MEND_MAX 100 /* objects */

/* What is known of one mirror, and when to look again. */
typedef struct look {
    wa_mono next, peek; /* compare, or ask whether that is worth while */
    uint64_t pause;     /* of the last comparison; 0: none yet */
    wa_mirror_sync found;
} look;

static wa_repo *
repo_of(wa_agent *agent)
{
    WA_LOCK(&agent->mutex);
    return agent->repo; /* lives to the agent's end, even when it is replaced */
}

static void
tell(const wa_member_status *member, const wa_mirror_sync *r)
{
    wa_error e = WA_ERROR_INIT;
    if (wa_mirror_sync_is_complete(r)) {
        wa_log(WA_LOG_INFO,
               "mirror \"%s\" has all %" PRIu64 " objects of the main repository (%" PRIu64
               " were missing)",
               member->name, r->objects, r->copied);
        return;
    }
    if (r->different > 0)
        wa_error_set(&e, WA_FAILED,
                     "mirror \"%s\" has other bytes than the main repository in %" PRIu64
                     " objects, the first one \"%s\"",
                     member->name, r->different, r->first_different);
    else
        wa_error_set(&e, WA_FAILED,
                     "mirror \"%s\" lacks %" PRIu64
                     " objects of the main repository, the first one "
                     "\"%s\"",
                     member->name, r->missing - r->copied, r->first_missing);
    wa_error_hint(&e, "Run \"walagent mirror\".");
    wa_log_error(WA_LOG_WARNING, &e, NULL);
}

/* A mirror that is one, and that lacks only a little. */
static bool
can_be_mended(const wa_mirror_sync *r)
{
    return r->has_entry && r->different == 0 && r->missing > 0 && r->missing <= MEND_MAX;
}

static wa_status
compare_and_mend(wa_agent *agent, wa_repo *repo, size_t i, wa_mirror_sync *ret, wa_error *err)
{
    wa_mirror_sync_options options = {.only_compare = true, .cancel = &agent->stop};
    WA_TRY(wa_mirror_sync_run(repo, i, &options, ret, err));
    if (!can_be_mended(ret))
        return WA_OK;
    options.only_compare = false;
    *ret = (wa_mirror_sync){0};
    return wa_mirror_sync_run(repo, i, &options, ret, err);
}

static bool
is_news(const wa_mirror_sync *a, const wa_mirror_sync *b)
{
    return a->has_entry != b->has_entry || a->missing - a->copied != b->missing - b->copied ||
           a->different != b->different || !wa_str_eq(a->first_missing, b->first_missing) ||
           !wa_str_eq(a->first_different, b->first_different);
}

uint64_t
wa_agent_mirror_pause(uint64_t before, const wa_mirror_sync *then, const wa_mirror_sync *now)
{
    if (wa_mirror_sync_is_complete(now))
        return AGAIN_MS;
    if (before == 0 || is_news(then, now))
        return INCOMPLETE_MS;
    return before * 2 < INCOMPLETE_MOST_MS ? before * 2 : INCOMPLETE_MOST_MS;
}

static void
compare(wa_agent *agent, wa_repo *repo, size_t i, look *l)
{
    wa_error err = WA_ERROR_INIT;
    wa_member_status member;
    wa_mirror_sync result = {0};
    wa_store_member_status(wa_repo_store(repo), i, &member);
    if (compare_and_mend(agent, repo, i, &result, &err) != WA_OK) {
        if (!wa_cancelled(&agent->stop))
            wa_log_error(WA_LOG_WARNING, &err, "mirror \"%s\" was not compared", member.name);
        l->next = l->peek = wa_mono_now() + RETRY_MS;
        return;
    }
    tell(&member, &result);
    l->pause = wa_agent_mirror_pause(l->pause, &l->found, &result);
    l->found = result;
    l->next = wa_mono_now() + l->pause;
    l->peek = wa_mono_now() + INCOMPLETE_MS;
    WA_LOCK(&agent->mutex);
    if (i < WA_MIRRORS_MAX && agent->repo == repo) /* else a reload has replaced it */
        agent->mirrors[i] = (wa_agent_mirror){.compared = wa_time_now(),
                                              .complete = wa_mirror_sync_is_complete(&result),
                                              .missing = result.missing - result.copied,
                                              .different = result.different};
}

/* A failure is no news: the next comparison tells it. */
static bool
is_outdated(wa_repo *repo, size_t i, look *l)
{
    wa_error ignored = WA_ERROR_INIT;
    bool outdated = false;
    if (wa_mirror_sync_is_complete(&l->found) || wa_mono_now() < l->peek)
        return false;
    l->peek = wa_mono_now() + INCOMPLETE_MS;
    return wa_mirror_sync_is_outdated(repo, i, &l->found, &outdated, &ignored) == WA_OK && outdated;
}

void *
wa_agent_mirrors_main(void *arg)
{
    wa_agent *agent = arg;
    const wa_repo *seen = NULL;
    WA_CLEANUP(wa_freep) look *looks = NULL; /* by member */
    wa_error err = WA_ERROR_INIT;
    while (wa_cancel_sleep(&agent->stop, LOOK_MS, &err) == WA_OK) {
        wa_repo *repo = repo_of(agent);
        if (repo == NULL)
            continue;
        size_t members = wa_store_members(wa_repo_store(repo));
        if (repo != seen) {
            wa_freep(&looks);
            looks = wa_calloc(members, sizeof *looks);
            seen = repo;
        }
        for (size_t i = 1; i < members; i++)
            if (wa_mono_now() >= looks[i].next || is_outdated(repo, i, &looks[i]))
                compare(agent, repo, i, &looks[i]);
    }
    return NULL;
}

static void
set_time(json_t *json, const char *key, wa_time t)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(json, key,
                       t == 0 || t == WA_TIME_NONE ? NULL : wa_time_format_rfc3339(t, text));
}

json_t *
wa_agent_repositories_json(wa_agent *agent)
{
    json_t *list = json_array();
    const wa_store *store = wa_repo_store(agent->repo);
    for (size_t i = 0; i < wa_store_members(store); i++) {
        wa_member_status s;
        json_t *one = json_object();
        wa_store_member_status(store, i, &s);
        wa_json_set_string(one, "name", i == 0 ? NULL : s.name);
        wa_json_set_string(one, "url", s.url);
        wa_json_set_bool(one, "up", s.up);
        wa_json_set_string(one, "last_error", s.last_error[0] ? s.last_error : NULL);
        set_time(one, "last_error_time", s.last_error_time);
        if (i > 0 && i < WA_MIRRORS_MAX) {
            const wa_agent_mirror *m = &agent->mirrors[i];
            wa_json_set_u64(one, "copied", s.copied);
            set_time(one, "compared_time", m->compared);
            if (m->compared != 0) {
                wa_json_set_bool(one, "complete", m->complete);
                wa_json_set_u64(one, "missing", m->missing);
                wa_json_set_u64(one, "different", m->different);
            }
        }
        json_array_append_new(list, one);
    }
    return list;
}

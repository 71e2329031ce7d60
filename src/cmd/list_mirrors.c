/*
 * list_mirrors.c - list's lines about further repositories: a copy that is not complete must not be
 * counted on. To compare them takes a listing of everything, which the agent does now and then.
 */
#include "commands_internal.h"

#include "walagent/base/hook.h"
#include "walagent/store/mirror.h"

/* The agent's word about the mirror of this name, or NULL. */
static const json_t *
find(const json_t *status, const char *name)
{
    const json_t *list = status == NULL ? NULL : json_object_get(status, "repositories");
    for (size_t i = 1; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        if (wa_str_eq(wa_json_string_or(one, "name", NULL), name))
            return one;
    }
    return NULL;
}

json_t *
wa_list_mirrors(wa_context *ctx, const wa_repo *repo)
{
    const wa_store *store = wa_repo_store((wa_repo *)(uintptr_t)repo);
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_json_freep) json_t *status = NULL;
    WA_CLEANUP(wa_freep) char *socket = wa_hook_socket_path(ctx->config);
    if (wa_store_members(store) == 1)
        return NULL;
    if (wa_ask_agent(ctx, socket, &status, &ignored) != WA_OK)
        wa_error_clear(&ignored); /* nobody knows: that is said */
    json_t *list = json_array();
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_member_status member;
        wa_store_member_status(store, i, &member);
        const json_t *known = find(status, member.name);
        const char *compared =
            known == NULL ? NULL : wa_json_string_or(known, "compared_time", NULL);
        json_t *one = json_object();
        wa_json_set_string(one, "name", member.name);
        wa_json_set_string(one, "url", member.url);
        wa_json_set(one, "complete",
                    compared == NULL ? json_null()
                                     : json_boolean(wa_json_bool_or(known, "complete", false)));
        wa_json_set_string(one, "compared_time", compared);
        json_array_append_new(list, one);
    }
    return list;
}

void
wa_list_mirrors_print(const json_t *mirrors)
{
    for (size_t i = 0; i < json_array_size(mirrors); i++) {
        const json_t *one = json_array_get(mirrors, i);
        const char *compared = wa_json_string_or(one, "compared_time", NULL);
        printf("mirror \"%s\" (%s): ", wa_json_string_or(one, "name", ""),
               wa_json_string_or(one, "url", ""));
        if (compared == NULL)
            puts("not compared; \"walagent mirror --dry-run\" tells what it lacks");
        else if (wa_json_bool_or(one, "complete", false))
            printf("complete at %s\n", compared);
        else
            puts("INCOMPLETE: run \"walagent mirror\"");
    }
}

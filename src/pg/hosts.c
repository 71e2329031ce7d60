/*
 * hosts.c - connection strings: parsed by libpq, split into one per host, written without secrets.
 */
#include "conn_internal.h"

#include <stdlib.h>
#include <string.h>

#define CONNINFO_MAX (64u * 1024)

static void
free_optionsp(PQconninfoOption **options)
{
    PQconninfoFree(*options);
    *options = NULL;
}

void
wa_pg_params_done(wa_pg_params *params)
{
    wa_strv_done(&params->names);
    wa_strv_done(&params->values);
}

static bool
find_param(const wa_pg_params *params, const char *name, size_t *ret)
{
    for (size_t i = 0; i < params->names.count; i++)
        if (strcmp(params->names.items[i], name) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static void
remove_item(wa_strv *v, size_t i)
{
    free(v->items[i]);
    memmove(&v->items[i], &v->items[i + 1], (v->count - i - 1) * sizeof v->items[0]);
    v->count--;
}

void
wa_pg_params_set(wa_pg_params *params, const char *name, const char *value)
{
    size_t i;
    if (find_param(params, name, &i)) {
        remove_item(&params->names, i);
        remove_item(&params->values, i);
    }
    if (value == NULL)
        return;
    wa_strv_add(&params->names, name);
    wa_strv_add(&params->values, value);
}

const char *
wa_pg_params_get(const wa_pg_params *params, const char *name)
{
    size_t i;
    return find_param(params, name, &i) ? params->values.items[i] : NULL;
}

char *
wa_pg_params_format(const wa_pg_params *params)
{
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(16 * CONNINFO_MAX);
    for (size_t i = 0; i < params->names.count; i++) {
        wa_buf_printf(&out, "%s%s='", i > 0 ? " " : "", params->names.items[i]);
        for (const char *p = params->values.items[i]; *p != '\0'; p++) {
            if (*p == '\\' || *p == '\'')
                wa_buf_putc(&out, '\\');
            wa_buf_putc(&out, *p);
        }
        wa_buf_putc(&out, '\'');
    }
    return wa_buf_detach(&out);
}

/* What libpq says about a broken conninfo may quote a part of it, and that part may be a secret. */
static wa_status
invalid_conninfo(const char *conninfo, const char *message, wa_error *err)
{
    bool may_have_secret = strstr(conninfo, "pass") != NULL || strchr(conninfo, '@') != NULL;
    if (may_have_secret || message == NULL) {
        (void)wa_error_set(err, WA_INVALID, "invalid conninfo");
        return wa_error_hint(err, "Check its quoting; the text isn't shown because it may contain "
                                  "a password.");
    }
    char sqlstate[WA_PG_SQLSTATE];
    WA_CLEANUP(wa_freep) char *text = wa_pg_tidy_message(message, sqlstate);
    return wa_error_set(err, WA_INVALID, "invalid conninfo: %s", text);
}

static void
take_options(const PQconninfoOption *options, wa_pg_params *params)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (o->val != NULL && o->val[0] != '\0')
            wa_pg_params_set(params, o->keyword, o->val);
}

/* libpq reads service files only when it connects: begin to, and look at what it would use. */
static wa_status
expand_service(const char *conninfo, wa_pg_params *params, wa_error *err)
{
    PGconn *probe = PQconnectStart(conninfo);
    if (probe == NULL)
        return wa_error_set(err, WA_FAILED, "could not allocate a connection");
    WA_CLEANUP(free_optionsp) PQconninfoOption *options = PQconninfo(probe);
    const char *host = PQhost(probe);
    wa_status status = WA_OK;
    if (options == NULL || (PQstatus(probe) == CONNECTION_BAD && wa_str_empty(host)))
        status = invalid_conninfo(conninfo, PQerrorMessage(probe), err);
    else
        take_options(options, params);
    PQfinish(probe);
    if (status == WA_OK) {
        wa_pg_params_set(params, "service", NULL);
        wa_pg_params_set(params, "replication", NULL);
    }
    return status;
}

static void
add_host_defaults(wa_pg_params *params)
{
    WA_CLEANUP(free_optionsp) PQconninfoOption *defaults = PQconndefaults();
    if (defaults == NULL)
        return;
    for (const PQconninfoOption *o = defaults; o->keyword != NULL; o++) {
        bool wanted = strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0 ||
                      strcmp(o->keyword, "port") == 0;
        wanted = wanted && !wa_str_eq(o->val, o->compiled);
        if (wanted && !wa_str_empty(o->val) && wa_pg_params_get(params, o->keyword) == NULL)
            wa_pg_params_set(params, o->keyword, o->val);
    }
}

wa_status
wa_pg_params_parse(const char *conninfo, wa_pg_params *ret, wa_error *err)
{
    if (strlen(conninfo) > CONNINFO_MAX)
        return wa_error_set(err, WA_INVALID, "conninfo is longer than %u bytes", CONNINFO_MAX);
    WA_TRY(wa_libpq_load(err));
    char *message = NULL;
    WA_CLEANUP(free_optionsp) PQconninfoOption *options = PQconninfoParse(conninfo, &message);
    if (options == NULL) {
        wa_status status = invalid_conninfo(conninfo, message, err);
        PQfreemem(message);
        return status;
    }
    WA_CLEANUP(wa_pg_params_done) wa_pg_params params = {0};
    take_options(options, &params);
    bool has_host =
        wa_pg_params_get(&params, "host") != NULL || wa_pg_params_get(&params, "hostaddr") != NULL;
    const char *service = wa_pg_params_get(&params, "service");
    if (!has_host && (service != NULL || !wa_str_empty(getenv("PGSERVICE"))))
        WA_TRY(expand_service(conninfo, &params, err));
    else if (!has_host)
        add_host_defaults(&params);
    *ret = params;
    params = (wa_pg_params){0};
    return WA_OK;
}

static size_t
list_length(const char *list)
{
    size_t n = 1;
    for (const char *p = list; *p != '\0'; p++)
        n += *p == ',';
    return n;
}

/* A new string; the last item again when the list has a single one. */
static char *
list_item(const char *list, size_t i)
{
    const char *p = list;
    if (list_length(list) == 1)
        i = 0;
    for (; i > 0; i--)
        p = strchr(p, ',') + 1;
    return wa_strndup(p, strcspn(p, ","));
}

wa_status
wa_pg_params_hosts(const wa_pg_params *params, size_t *ret_count, wa_error *err)
{
    const char *host = wa_pg_params_get(params, "host");
    const char *hostaddr = wa_pg_params_get(params, "hostaddr");
    const char *port = wa_pg_params_get(params, "port");
    size_t count = 1;
    if (hostaddr != NULL)
        count = list_length(hostaddr);
    else if (host != NULL)
        count = list_length(host);
    if (host != NULL && list_length(host) != count)
        return wa_error_set(err, WA_INVALID, "conninfo has %zu host names for %zu addresses",
                            list_length(host), count);
    if (port != NULL && list_length(port) != 1 && list_length(port) != count)
        return wa_error_set(err, WA_INVALID, "conninfo has %zu ports for %zu hosts",
                            list_length(port), count);
    *ret_count = count;
    return WA_OK;
}

wa_status
wa_pg_params_for_host(const wa_pg_params *params, size_t i, wa_pg_params *ret, wa_error *err)
{
    size_t count = 0;
    WA_TRY(wa_pg_params_hosts(params, &count, err));
    WA_ASSERT(i < count);
    WA_CLEANUP(wa_pg_params_done) wa_pg_params one = {0};
    for (size_t k = 0; k < params->names.count; k++) {
        const char *name = params->names.items[k];
        bool listed = count > 1 && (strcmp(name, "host") == 0 || strcmp(name, "hostaddr") == 0 ||
                                    strcmp(name, "port") == 0);
        if (!listed) {
            wa_pg_params_set(&one, name, params->values.items[k]);
            continue;
        }
        WA_CLEANUP(wa_freep) char *item = list_item(params->values.items[k], i);
        if (item[0] != '\0')
            wa_pg_params_set(&one, name, item);
    }
    *ret = one;
    one = (wa_pg_params){0};
    return WA_OK;
}

wa_status
wa_pg_split_hosts(const char *conninfo, wa_strv *ret, wa_error *err)
{
    WA_CLEANUP(wa_pg_params_done) wa_pg_params params = {0};
    size_t count = 0;
    WA_TRY(wa_pg_params_parse(conninfo, &params, err));
    WA_TRY(wa_pg_params_hosts(&params, &count, err));
    wa_pg_params_set(&params, "target_session_attrs", NULL);
    wa_pg_params_set(&params, "load_balance_hosts", NULL);
    WA_CLEANUP(wa_strv_done) wa_strv list = {0};
    for (size_t i = 0; i < count; i++) {
        WA_CLEANUP(wa_pg_params_done) wa_pg_params one = {0};
        WA_TRY(wa_pg_params_for_host(&params, i, &one, err));
        wa_strv_take(&list, wa_pg_params_format(&one));
    }
    *ret = list;
    list = (wa_strv){0};
    return WA_OK;
}

wa_status
wa_pg_conninfo_public(const char *conninfo, char **ret, wa_error *err)
{
    WA_TRY(wa_libpq_load(err));
    char *message = NULL;
    WA_CLEANUP(free_optionsp) PQconninfoOption *options = PQconninfoParse(conninfo, &message);
    if (options == NULL) {
        wa_status status = invalid_conninfo(conninfo, message, err);
        PQfreemem(message);
        return status;
    }
    WA_CLEANUP(wa_pg_params_done) wa_pg_params params = {0};
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        /* dispchar '*' marks what libpq itself takes for a secret. */
        bool secret = o->dispchar != NULL && strchr(o->dispchar, '*') != NULL;
        if (!secret && !wa_str_empty(o->val))
            wa_pg_params_set(&params, o->keyword, o->val);
    }
    *ret = wa_pg_params_format(&params);
    return WA_OK;
}

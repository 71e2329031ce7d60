/*
 * check_hosts.c - the preflight's look at every host of conninfo: does it keep the slot, so that
 * after a failover to it the old timeline's WAL is still there?
 */
#include "check_internal.h"

#include <string.h>

#define HOST_TIMEOUT_MS 3000

static void
check_host(check *c, const char *conninfo)
{
    wa_error err = WA_ERROR_INIT;
    wa_pg_slot slot;
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_connect_options options = {.conninfo = conninfo,
                                     .application_name = "walagent check",
                                     .timeout_ms = HOST_TIMEOUT_MS,
                                     .cancel = c->options->cancel};
    if (wa_pg_connect(&options, &conn, &err) != WA_OK ||
        wa_pg_slot_query(conn, c->options->slot, &slot, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_WARNING, "host", &err);
        return;
    }
    if (!slot.exists || strcmp(slot.wal_status, "lost") == 0)
        wa_check_add(
            c, WA_VERDICT_WARNING, "host",
            "The running agent makes it within seconds: is there one, may its role "
            "connect, is max_replication_slots high enough? Patroni drops slots that "
            "aren't under ignore_slots.",
            "host %s %s replication slot \"%s\": after a failover to it WAL may be missing",
            wa_pg_host(conn), slot.exists ? "has lost the WAL of" : "has no", c->options->slot);
    else
        wa_check_add(c, WA_VERDICT_OK, "host", NULL, "host %s keeps WAL in replication slot \"%s\"",
                     wa_pg_host(conn), c->options->slot);
}

void
wa_check_hosts(check *c)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv hosts = {0};
    if (c->options->conninfo == NULL || c->options->slot == NULL)
        return;
    if (wa_pg_split_hosts(c->options->conninfo, &hosts, &err) != WA_OK) {
        wa_check_add_error(c, WA_VERDICT_FAILED, "host", &err);
        return;
    }
    for (size_t i = 0; hosts.count > 1 && i < hosts.count; i++)
        check_host(c, hosts.items[i]);
}

/*
 * check_internal.h - what the steps of the preflight share.
 */
#ifndef WALAGENT_CHECK_INTERNAL_H
#define WALAGENT_CHECK_INTERNAL_H

#include "walagent/audit/check.h"
#include "walagent/pg/replication.h"

typedef struct check {
    const wa_check_options *options;
    wa_findings *findings;
    bool repo_loaded;
    bool repo_away;          /* it could not be reached, or isn't there */
    bool streams;            /* an agent streams from the server */
    wa_pg_conn *repl, *conn; /* NULL: not connected */
    wa_pg_system system;
    bool in_recovery;
} check;

void wa_check_add(check *c, wa_verdict verdict, const char *what, const char *hint, const char *fmt,
                  ...) WA_PRINTF(5, 6);
/* A failure as a finding, with its own hint. */
void wa_check_add_error(check *c, wa_verdict verdict, const char *what, const wa_error *err);

/* check_server.c */
void wa_check_server(check *c);
void wa_check_slot(check *c);
void wa_check_archiver(check *c);
void wa_check_clock(check *c);
/* check_synchronous.c: nothing to say when the server does not list the agent */
void wa_check_synchronous(check *c);
/* check_hosts.c: nothing to say for a single host */
void wa_check_hosts(check *c);
/* check_lineage.c */
void wa_check_lineage(check *c);
/* check_mirrors.c: nothing to say without mirrors */
void wa_check_mirrors(check *c);
/* check_arrival.c */
wa_status wa_check_arrival(check *c, wa_error *err) WA_MUST_CHECK;

#endif

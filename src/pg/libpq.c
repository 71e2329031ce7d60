/*
 * libpq.c - what we call of libpq, which is loaded when it is first needed (base/library.h).
 */
#include "conn_internal.h"

#include "walagent/base/library.h"

#include <libpq-fe.h>

#define FUNCTIONS(F)                                                                               \
    F(int, PQbackendPID, (const PGconn *conn), (conn))                                             \
    F(void, PQclear, (PGresult * res), (res))                                                      \
    F(PQconninfoOption *, PQconndefaults, (void), ())                                              \
    F(PostgresPollingStatusType, PQconnectPoll, (PGconn * conn), (conn))                           \
    F(PGconn *, PQconnectStart, (const char *conninfo), (conninfo))                                \
    F(PGconn *, PQconnectStartParams,                                                              \
      (const char *const *keywords, const char *const *values, int expand_dbname),                 \
      (keywords, values, expand_dbname))                                                           \
    F(int, PQconnectionNeedsPassword, (const PGconn *conn), (conn))                                \
    F(PQconninfoOption *, PQconninfo, (PGconn * conn), (conn))                                     \
    F(void, PQconninfoFree, (PQconninfoOption * options), (options))                               \
    F(PQconninfoOption *, PQconninfoParse, (const char *conninfo, char **message),                 \
      (conninfo, message))                                                                         \
    F(int, PQconsumeInput, (PGconn * conn), (conn))                                                \
    F(char *, PQerrorMessage, (const PGconn *conn), (conn))                                        \
    F(void, PQfinish, (PGconn * conn), (conn))                                                     \
    F(int, PQflush, (PGconn * conn), (conn))                                                       \
    F(void, PQfreemem, (void *p), (p))                                                             \
    F(int, PQgetCopyData, (PGconn * conn, char **buffer, int async), (conn, buffer, async))        \
    F(PGresult *, PQgetResult, (PGconn * conn), (conn))                                            \
    F(int, PQgetisnull, (const PGresult *res, int row, int column), (res, row, column))            \
    F(int, PQgetlength, (const PGresult *res, int row, int column), (res, row, column))            \
    F(char *, PQgetvalue, (const PGresult *res, int row, int column), (res, row, column))          \
    F(char *, PQhost, (const PGconn *conn), (conn))                                                \
    F(int, PQisBusy, (PGconn * conn), (conn))                                                      \
    F(int, PQnfields, (const PGresult *res), (res))                                                \
    F(int, PQntuples, (const PGresult *res), (res))                                                \
    F(const char *, PQparameterStatus, (const PGconn *conn, const char *name), (conn, name))       \
    F(char *, PQport, (const PGconn *conn), (conn))                                                \
    F(int, PQputCopyData, (PGconn * conn, const char *buffer, int len), (conn, buffer, len))       \
    F(int, PQputCopyEnd, (PGconn * conn, const char *message), (conn, message))                    \
    F(char *, PQresStatus, (ExecStatusType status), (status))                                      \
    F(char *, PQresultErrorField, (const PGresult *res, int field), (res, field))                  \
    F(char *, PQresultErrorMessage, (const PGresult *res), (res))                                  \
    F(ExecStatusType, PQresultStatus, (const PGresult *res), (res))                                \
    F(int, PQsendQuery, (PGconn * conn, const char *query), (conn, query))                         \
    F(int, PQserverVersion, (const PGconn *conn), (conn))                                          \
    F(PGVerbosity, PQsetErrorVerbosity, (PGconn * conn, PGVerbosity verbosity), (conn, verbosity)) \
    F(PQnoticeReceiver, PQsetNoticeReceiver,                                                       \
      (PGconn * conn, PQnoticeReceiver receiver, void *arg), (conn, receiver, arg))                \
    F(int, PQsetnonblocking, (PGconn * conn, int on), (conn, on))                                  \
    F(int, PQsocket, (const PGconn *conn), (conn))                                                 \
    F(int, PQsslInUse, (PGconn * conn), (conn))                                                    \
    F(ConnStatusType, PQstatus, (const PGconn *conn), (conn))                                      \
    F(char *, PQuser, (const PGconn *conn), (conn))

WA_LIBRARY(WA_PQ_SONAME, FUNCTIONS);
FUNCTIONS(WA_LIBRARY_DEFINE)

wa_status
wa_libpq_load(wa_error *err)
{
    return wa_library_load(&library, err);
}

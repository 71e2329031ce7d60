/*
 * libmicrohttpd.c - what we call of libmicrohttpd, which is loaded when it is first needed
 * (base/library.h).
 */
#include "agent_internal.h"

#include "walagent/base/library.h"

#include <microhttpd.h>
#include <stdarg.h>

#define FUNCTIONS(F)                                                                               \
    F(enum MHD_Result, MHD_add_response_header,                                                    \
      (struct MHD_Response * response, const char *header, const char *content),                   \
      (response, header, content))                                                                 \
    F(struct MHD_Response *, MHD_create_response_from_buffer,                                      \
      (size_t size, void *buffer, enum MHD_ResponseMemoryMode mode), (size, buffer, mode))         \
    F(void, MHD_destroy_response, (struct MHD_Response * response), (response))                    \
    F(enum MHD_Result, MHD_queue_response,                                                         \
      (struct MHD_Connection * connection, unsigned int status, struct MHD_Response *response),    \
      (connection, status, response))                                                              \
    F(void, MHD_stop_daemon, (struct MHD_Daemon * daemon), (daemon))                               \
    F(struct MHD_Daemon *, MHD_start_daemon_va,                                                    \
      (unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback accept, void *accept_arg,       \
       MHD_AccessHandlerCallback handler, void *handler_arg, va_list options),                     \
      (flags, port, accept, accept_arg, handler, handler_arg, options))

WA_LIBRARY(WA_MHD_SONAME, FUNCTIONS);
FUNCTIONS(WA_LIBRARY_DEFINE)

struct MHD_Daemon *
MHD_start_daemon(unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback accept,
                 void *accept_arg, MHD_AccessHandlerCallback handler, void *handler_arg, ...)
{
    va_list options;
    va_start(options, handler_arg);
    struct MHD_Daemon *daemon =
        MHD_start_daemon_va(flags, port, accept, accept_arg, handler, handler_arg, options);
    va_end(options);
    return daemon;
}

wa_status
wa_libmicrohttpd_load(wa_error *err)
{
    return wa_library_load(&library, err);
}

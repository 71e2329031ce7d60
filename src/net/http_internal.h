/*
 * http_internal.h - what http.c and libcurl.c share.
 */
#ifndef WALAGENT_NET_HTTP_INTERNAL_H
#define WALAGENT_NET_HTTP_INTERNAL_H

#include "walagent/base/error.h"

wa_status wa_libcurl_load(wa_error *err) WA_MUST_CHECK;

#endif

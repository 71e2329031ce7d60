/*
 * tar_internal.h - what the files that call libarchive share.
 */
#ifndef WALAGENT_CODEC_TAR_INTERNAL_H
#define WALAGENT_CODEC_TAR_INTERNAL_H

#include "walagent/base/error.h"

wa_status wa_libarchive_load(wa_error *err) WA_MUST_CHECK;

#endif

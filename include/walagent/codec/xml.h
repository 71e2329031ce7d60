/*
 * walagent/codec/xml.h - S3's small XML answers, by path (expat underneath).
 *
 * The callback gets each element without children when it ends: its path without name spaces
 * ("ListBucketResult/Contents/Key") and its text ("" when empty), and each end of an element that
 * has children with text NULL. A failure of the callback ends the parse and is returned as it is.
 * Entities are never expanded beyond the five of XML; a DOCTYPE is CORRUPT.
 */
#ifndef WALAGENT_CODEC_XML_H
#define WALAGENT_CODEC_XML_H

#include "walagent/base/error.h"

#include <stddef.h>

typedef wa_status (*wa_xml_fn)(void *arg, const char *path, const char *text, wa_error *err);
wa_status wa_xml_parse(const char *data, size_t len, const char *what, wa_xml_fn fn, void *arg,
                       wa_error *err) WA_MUST_CHECK;
/* The text of one element, or NULL: a new string. For error bodies: never fails. */
char *wa_xml_find(const char *data, size_t len, const char *path);

#endif

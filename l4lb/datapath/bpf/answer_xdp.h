/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The XDP hook says and drops nothing: the packet goes on as it came, and the TC hook does.
 */
#pragma once

#include "work.h"

#define dropped(reason) ((void)(reason), HOOK_PASS)
#define refuse(ctx, w, settings, reason) ((void)(reason), HOOK_PASS)
#define time_exceeded(ctx, w, settings, here) ((void)(here), HOOK_PASS)
#define too_big(ctx, w, settings, here) ((void)(here), HOOK_PASS)

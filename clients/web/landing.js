// @ts-check
/** The front page: three doors, and nothing to do but fill them with words. */

import "/static/shared/components/language-switch.js";
import { startI18n } from "/static/shared/i18n.js";

await startI18n();

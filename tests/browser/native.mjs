// Opens the player page with `?native`, so that the browser plays HLS itself, and says how it goes.
//
//   node native.mjs URL SCREENSHOT.png
//
// Prints one JSON line.

import { writeFileSync } from 'node:fs';
import { chromium, end, endAfter, sleep } from './browser.mjs';

const [, , url, screenshot] = process.argv;

endAfter(40_000);

const state = `(() => {
  const video = document.querySelector('video');
  return {
    time: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames,
    source: video.currentSrc, paused: video.paused, state: window.ringside?.state,
    error: video.error?.message ?? null,
  };
})()`;

try {
  const page = await chromium();
  await page.open(url);
  let first;
  const opened = Date.now();
  do {
    await sleep(200);
    first = await page.evaluate(state).catch(() => undefined);
  } while (!(first?.time > 0.5) && Date.now() - opened < 15_000);
  await sleep(4000);
  const last = await page.evaluate(state);
  writeFileSync(screenshot, Buffer.from(await page.picture(), 'base64'));
  console.log(JSON.stringify({ ...last, advanced: last.time - (first?.time ?? 0) }));
  end(0);
} catch (error) {
  console.error(String(error?.stack ?? error));
  end(1);
}

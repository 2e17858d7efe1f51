// Keeps the files of the page for when there is no network. What is on the server comes first, so nothing is outdated.

const NAME = `ferlightning ${registration.scope} @VERSION@`;
const FILES = @FILES@;

self.addEventListener("install", (event) => {
  const fill = async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(FILES.map((name) => new Request(name, { cache: "no-cache" })));
    await skipWaiting();
  };
  event.waitUntil(fill());
});

self.addEventListener("activate", (event) => {
  const clear = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(`ferlightning ${registration.scope} `));
    await Promise.all(old.filter((name) => name !== NAME).map((name) => caches.delete(name)));
    await clients.claim();
  };
  event.waitUntil(clear());
});

self.addEventListener("fetch", (event) => {
  const kept = async (error) => {
    const answer = await caches.match(event.request, { cacheName: NAME, ignoreSearch: true, ignoreMethod: true });
    if (!answer) throw error;
    return answer;
  };
  event.respondWith(fetch(event.request).catch(kept));
});

// An HTTP service: Wisp listens, and calls this for each request, in an instance of its own.
addEventListener('fetch', ((event: FetchEvent) => event.respondWith(answer(event.request))) as EventListener);

function answer(request: Request): Response {
  const name = new URL(request.url).pathname.slice(1) || 'world';
  return new Response(`hello ${name} from TypeScript\n`);
}

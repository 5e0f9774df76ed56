// An HTTP service: Wisp listens, and calls this for each request, in an instance of its own.
addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

function answer(request) {
  const name = new URL(request.url).pathname.slice(1) || 'world';
  return new Response(`hello ${name} from JavaScript\n`);
}

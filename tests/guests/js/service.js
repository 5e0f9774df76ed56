// An HTTP service in JavaScript, as people write them: a handler of the fetch event.
addEventListener('fetch', (event) => event.respondWith(serve(event.request)));

async function serve(request) {
  const url = new URL(request.url);
  switch (url.pathname) {
    case '/hello':
      return new Response('hello from JavaScript, wasi:http 0.2\n');
    case '/echo':
      return new Response(await request.text());
    default:
      return new Response('no such path\n', { status: 404 });
  }
}

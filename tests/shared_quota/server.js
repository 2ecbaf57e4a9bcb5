// A limiter that others wrote, @fastify/rate-limit, behind a PATCH that takes 20 to 30 ms; /stats tells what it saw.
const limit = Number(process.argv[2]), windowMs = Number(process.argv[3]), strict = process.argv[4] === 'strict'
const app = require('fastify')()
let first = null, last = null
const statuses = {}, tenants = {}

app.addHook('onRequest', async (request) => { if (request.method === 'PATCH') first ??= Date.now() })
app.addHook('onResponse', async (request, reply) => {
  if (request.method !== 'PATCH') return
  last = Date.now()
  statuses[reply.statusCode] = (statuses[reply.statusCode] || 0) + 1
  const tenant = tenants[request.headers.authorization || ''] ??= { first: last, last, accepted: 0 }
  tenant.last = last
  tenant.accepted += reply.statusCode === 200
})

app.register(require('@fastify/rate-limit'), {
  max: limit,
  timeWindow: windowMs,
  continueExceeding: strict, // each refusal renews the window
  cache: 10000,
  keyGenerator: (request) => request.headers.authorization || '',
  allowList: (request) => request.method !== 'PATCH'
})
app.register(async (scope) => {
  scope.patch('/items/:id', async (request) => {
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 10))
    return request.body
  })
  scope.get('/stats', async () => ({ seconds: (last - first) / 1000, statuses, tenants: Object.values(tenants) }))
})
app.listen({ port: 0, host: '127.0.0.1' }).then((url) => console.log(url))

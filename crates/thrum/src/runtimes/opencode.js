// Thrum in opencode: briefs a session, brings it mail, and wakes it while it is idle. All that it knows comes from `thrum hook`; where
// that is missing, fails or has nothing to say, nothing happens. It needs no package.
import { spawn } from "node:child_process"

// `thrum hook` ends by itself after a second.
const PATIENCE_MS = 3000

// Events by which a person is asked, and has answered.
const NOTICES = {
  "permission.asked": "permission_prompt",
  "question.asked": "elicitation_dialog",
  "permission.replied": "answered",
  "question.replied": "answered",
}

// One run of `thrum hook EVENT`: its process, and the text of its answer.
function hook(event, payload, cwd, patience) {
  let child
  const text = new Promise((resolve) => {
    child = spawn("thrum", ["hook", event, "--host", "opencode"], { cwd, stdio: ["pipe", "pipe", "ignore"] })
    const timer = patience && setTimeout(() => child.kill(), patience)
    let out = ""
    child.stdout.setEncoding("utf8")
    child.stdout.on("data", (more) => (out += more))
    child.stdin.on("error", () => {})
    child.on("error", () => resolve(undefined))
    child.on("close", () => {
      clearTimeout(timer)
      try {
        resolve(JSON.parse(out).text)
      } catch {
        resolve(undefined)
      }
    })
    child.stdin.end(JSON.stringify(payload))
  })
  return { child, text }
}

export const Thrum = async ({ client, directory }) => {
  const sessions = new Map()
  const aborted = new Set()
  // At most one session is woken: the one that had a turn last.
  let waiter

  const ask = (event, session, more = {}) => hook(event, { session_id: session.id, ...more }, directory, PATIENCE_MS).text

  // A session by its id; that of a sub-agent is told apart, because it has no mail of its own.
  function known(id) {
    if (!sessions.has(id)) {
      const look = client.session.get({ path: { id } }).then((found) => {
        const parent = found.data?.parentID
        return parent ? known(parent).then((above) => ({ id: above.id, isMain: false })) : { id, isMain: true, isIdle: false }
      })
      sessions.set(id, look.catch(() => ({ id, isMain: false })))
    }
    return sessions.get(id)
  }

  function brief(session) {
    session.brief ??= ask("start", session, { source: session.wasCompacted ? "compact" : "startup" }).then((text) => {
      if (!text) session.brief = undefined
      return text
    })
    return session.brief
  }

  function stopWaiting() {
    waiter?.kill()
    waiter = undefined
  }

  // Starts a turn, as the agent and with the model of the last one.
  async function say(session, text) {
    session.said = text
    const body = { agent: session.agent, model: session.model, variant: session.variant, parts: [{ type: "text", text }] }
    await client.session.promptAsync({ path: { id: session.id }, body }).catch(() => {})
  }

  async function wait(session) {
    stopWaiting()
    const { child, text } = hook("wait", { session_id: session.id }, directory)
    waiter = child
    child.unref()
    const mail = await text
    if (waiter !== child) return
    waiter = undefined
    if (mail && session.isIdle) await say(session, mail)
  }

  async function hasStopped(id) {
    // After an interruption it comes twice, and a person wants quiet.
    const wasAborted = aborted.has(id)
    const session = await known(id)
    if (!session.isMain || session.isIdle) return
    session.isIdle = true
    const mail = await ask("stop", session, { aborted: wasAborted })
    if (mail) await say(session, mail)
    else if (session.isIdle && !wasAborted) await wait(session)
  }

  return {
    "chat.message": async ({ sessionID, agent, model, variant }, output) => {
      const session = await known(sessionID)
      if (!session.isMain) return
      stopWaiting()
      aborted.delete(sessionID)
      Object.assign(session, { agent, model, variant, isIdle: false })
      await brief(session)
      const last = output.parts.at(-1)
      const isWake = session.said !== undefined && output.parts.some((part) => part.text === session.said)
      session.said = undefined
      const mail = await ask("prompt", session, { is_wake: isWake })
      if (mail && last) {
        output.parts.push({ id: `${last.id}x`, sessionID, messageID: last.messageID, type: "text", synthetic: true, text: mail })
      }
    },
    "experimental.chat.system.transform": async ({ sessionID }, output) => {
      const session = sessionID && (await known(sessionID))
      const text = session?.isMain && (await brief(session))
      if (text) output.system.push(text)
    },
    "experimental.session.compacting": async ({ sessionID }, output) => {
      const session = await known(sessionID)
      const text = session.isMain && (await ask("compact", session))
      if (text) output.context.push(text)
    },
    "shell.env": async ({ sessionID }, output) => {
      if (sessionID) output.env.OPENCODE_SESSION_ID = (await known(sessionID)).id
    },
    event: async ({ event: { type, properties } }) => {
      const id = properties?.sessionID
      if (type === "session.error" && properties.error?.name === "MessageAbortedError") aborted.add(id)
      if (type === "session.idle") await hasStopped(id)
      if (type === "session.status" && properties.status?.type === "busy" && sessions.has(id)) {
        const session = await known(id)
        session.isIdle = false
        if (session.isMain) stopWaiting()
      }
      const notice = NOTICES[type]
      if (notice && sessions.has(id)) {
        const session = await known(id)
        if (session.isMain) await ask("notify", session, { notification_type: notice })
      }
      if (type === "session.compacted" && sessions.has(id)) {
        Object.assign(await known(id), { brief: undefined, wasCompacted: true })
      }
    },
    dispose: async () => {
      stopWaiting()
      const all = await Promise.all(sessions.values())
      await Promise.all(all.filter((session) => session.isMain && session.brief).map((session) => ask("end", session)))
    },
  }
}

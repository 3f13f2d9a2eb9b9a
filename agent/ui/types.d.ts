// The types of the HTTP API, as far as the page uses them; /openapi.json describes them.

export type Status = 'passing' | 'warning' | 'critical'
export type State = 'up' | 'drain' | 'down'
export type CheckStatus = { id: string; name?: string; type: string; status: Status; output?: string }
export type Override = { state?: State; weight?: number; tags?: string[]; meta?: Record<string, string> }

/** An instance as /v1/watch and /v1/services show it. */
export type Entry = {
  service: string
  id: string
  node?: string
  address: string
  port: number
  ports: Record<string, number>
  zone?: string
  weight: number
  tags: string[]
  meta: Record<string, string>
  status: Status
  checks?: CheckStatus[]
  slots: number
  owner?: string
  run?: string
  registered_at?: string
  deregister_after?: string
  state: State
  override?: Override
  source: 'agent' | 'static'
  revision: number
  shadowed?: Entry
  suspect?: boolean
  utilization?: number
}

/** An event of /v1/watch. */
export type FleetEvent = {
  type: 'reset' | 'put' | 'delete'
  revision: number
  service?: string
  id?: string
  instance?: Entry
  reason?: string
  instances?: Entry[]
}

/** A change that the agent saw, as /v1/history shows it. */
export type Change = {
  cursor: string
  revision: number
  seen: string
  service?: string
  id?: string
  change: string
  reason?: string
  why: string
  fields?: { field: string; from: string; to: string }[]
  cut?: boolean
  listed?: boolean
  since?: string
}

export type History = {
  begins: { revision: number; seen: string; dropped?: boolean } | null
  changes: Change[]
  truncated?: boolean
  skipped?: boolean
  watched: boolean
  end: string
}

/** Why an instance is answered or not, as …/why shows it. */
export type Why = {
  state: string
  reason: string
  next: string[]
  instance?: Entry
  missing?: boolean
  order?: { order: string; by?: string; until?: string }
  owner?: { agent: string; node: string; here?: boolean; session: string }
  registration?: Registration
  etcd?: {
    record?: number
    leaving?: boolean
    unreadable?: string
    key?: string
    override?: number
    static?: number
    lease?: string
    ttl?: string
    heard?: string
    error?: string
  }
  revision: number
  age: string
  stale?: boolean
}

export type FleetNode = {
  node: string
  agent: string
  version?: string
  address?: string
  zone?: string
  started?: string
  level?: number
}

/** An instance that the agent itself registers. */
export type Registration = {
  service: string
  id: string
  source: string
  state: string
  error?: string
  status: Status
  checks: (CheckStatus & { since?: string; last?: string })[]
}

/** A key with its value, in base64. */
export type KVItem = { key: string; value: string; revision: number; created: number; expires?: boolean }

/** What a key was at a revision. */
export type KVVersion = { revision: number; deleted?: boolean; value?: string; created?: number; number?: number; expires?: boolean; expires_in?: string }

export type LockCaller = { holder: string; node?: string; asked?: string; fence: number; broken?: { by: string; at: string } }
export type LockQueue = { name: string; shared: number; holders: LockCaller[]; waiters: LockCaller[]; truncated?: boolean }
export type HeldSlot = { service: string; instance: string; slot: number; holder: string; node?: string; asked?: string; fence: number }
export type Limit = { name: string; rate: number; per: string; burst: number; on_unavailable: 'deny' | 'allow'; usage?: { bought: number; waiting: number } }

/** The status of the agent, as /v1/agent shows it. */
export type Agent = {
  version: string
  node: string
  zone?: string
  namespace: string
  domain?: string
  advertise?: string
  owner: string
  run: string
  started: string
  endpoints: string[]
  settings: { name: string; value: unknown; source?: string }[]
  session: { state: string; lease?: string; ttl: string; since?: string; last_keepalive?: string; endpoint?: string; member?: string; error?: string }
  catalog: {
    synced: boolean
    revision: number
    epoch?: string
    age: string
    stale: boolean
    services: number
    instances: number
    nodes: number
    suspects: number
    broken: number
    resyncs: number
    endpoint?: string
    member?: string
    error?: string
  }
  level: { own: number; namespace: number; target?: number; behind?: { node: string; version?: string }[]; more?: number; error?: string }
  ungranted?: string
  registrations: Registration[]
  unsaved?: string
  unusable?: string[]
  certificates?: { setting: string; file?: string; expires: string; soon?: boolean }[]
}

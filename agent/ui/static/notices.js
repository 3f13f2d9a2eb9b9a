// What was done, with a way back.
import { signal } from './html.js'

/** @typedef {{id: number, about: string, text: string, failed?: boolean, undo?: () => void}} Notice */

const most = 4

/** The newest last. They stay until they are dismissed, or newer ones take their place. */
export const notices = signal(/** @type {Notice[]} */ ([]))

let last = 0

/** The newest notice that was shown so far, for notify. */
export const newest = () => last

/**
 * Shows a notice, in place of those about the same that were shown when what it tells of began: a later
 * one may be the only way back from something else.
 * @param {Omit<Notice, 'id'>} notice
 * @param {number} began  what newest said then
 */
export function notify(notice, began) {
  const others = notices.value.filter((n) => n.about !== notice.about || n.id > began)
  notices.value = [...others.slice(1 - most), { ...notice, id: ++last }]
}

/** @param {number} id */
export function dismiss(id) {
  notices.value = notices.value.filter((n) => n.id !== id)
}

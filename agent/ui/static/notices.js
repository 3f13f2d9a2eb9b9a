// What was done, with a way back.
import { signal } from './html.js'

/** @typedef {{id: number, about: string, text: string, failed?: boolean, undo?: () => void}} Notice */

const most = 4

/** The newest last. They stay until they are dismissed, or newer ones take their place. */
export const notices = signal(/** @type {Notice[]} */ ([]))

let last = 0

/**
 * Shows a notice, in place of an earlier one about the same.
 * @param {Omit<Notice, 'id'>} notice
 */
export function notify(notice) {
  const others = notices.value.filter((n) => n.about !== notice.about)
  notices.value = [...others.slice(1 - most), { ...notice, id: ++last }]
}

/** @param {number} id */
export function dismiss(id) {
  notices.value = notices.value.filter((n) => n.id !== id)
}

// What a test says to a peer: one JSON object a line on standard input, answered by one on standard output. A peer ends
// when its input does, so that none outlives its test.
import readline from 'node:readline'

export const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

// `commands` has a function for each value of `do`.
export const obey = (commands, end = async () => {}) => {
  const lines = readline.createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    const command = JSON.parse(line)
    try {
      say({ done: (await commands[command.do](command)) ?? null })
    } catch (error) {
      say({ failed: `${error.name}: ${error.message}` })
    }
  })
  lines.on('close', () => end().finally(() => process.exit(0)))
}

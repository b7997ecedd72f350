// A Web Worker that restores a tile by a network, with onnxruntime-web.

let loading = null

onmessage = async ({ data: { id, folder, planes, rows, columns } }) => {
  try {
    loading ??= load(folder)
    const { ort, session } = await loading
    const pixels = new Float32Array(3 * rows * columns)
    planes.forEach((plane, c) => plane.forEach((value, i) => { pixels[3 * i + c] = value }))
    const input = new ort.Tensor('float32', pixels, [1, rows, columns, 3])
    const { output } = await session.run({ input })
    const result = planes.map((plane, c) => plane.map((_, i) => output.data[3 * i + c]))
    postMessage({ id, result })
  } catch (error) {
    loading = null
    postMessage({ id, error: error.message })
  }
}

async function load(folder) {
  const ort = await import(`${folder}ort.wasm.bundle.min.mjs`)
  ort.env.wasm.numThreads = 1 // more require a page that is cross-origin isolated
  const session = await ort.InferenceSession.create(`${folder}mobile.onnx`)
  return { ort, session }
}

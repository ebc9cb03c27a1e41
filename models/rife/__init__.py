"""Reference modules of RIFE (Huang et al., ECCV 2022), the networks that every artifact is compared with.

Names, constructor arguments and state-dict keys are those of hzwer/ECCV2022-RIFE, so its checkpoints load
strictly. Deviations from upstream, all of them outside the arithmetic:

- `warp` builds its grid on every call: no module-level device, no cache keyed on a size, nothing at import.
- `IFNet` and `IFNet_m` compute what inference needs and return an `Interpolation`; the teacher (`block_tea`)
  exists so that checkpoints load, and is not run.
- `IFNet_m` takes the timestep as a number or as a tensor, so that it can be a graph input.

Shape legend, here and in the modules: N batch, C channels, H and W height and width of the frame in pixels.
A flow has its x displacement first, in pixels of the frame it belongs to.
"""

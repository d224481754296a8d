"""Wrong solutions of part 1 that the graded tests must tell from right ones."""
# ruff: noqa: E501

UTILS, NETWORKS, TRAIN = "part1_vae/utils.py", "part1_vae/cnn_encoder_decoder.py", "part1_vae/train.py"
DRAW = "mean + std * torch.randn_like(mean)"
KL = "0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std"
BPD = "elbo * math.log2(math.e) / math.prod(img_shape[1:])"
SAMPLE = "torch.multinomial(probabilities.reshape(-1, GREY_LEVELS), num_samples=1)"
LOGITS = "self.net(hidden.view(len(z), -1, 4, 4)).float()"
DECODE = "logits = self.decoder(sample_reparameterize(mean, log_std.exp()))"

# question, file, right code, what a student writes in its place
MISTAKES = {
    "variance for spread": ("1.7", UTILS, DRAW, "mean + std**2 * torch.randn_like(mean)"),
    "square root of the spread": ("1.7", UTILS, DRAW, "mean + std.sqrt() * torch.randn_like(mean)"),
    "log_std for std": ("1.7", UTILS, DRAW, "mean + std.exp() * torch.randn_like(mean)"),
    "uniform noise": ("1.7", UTILS, DRAW, "mean + std * torch.rand_like(mean)"),
    "uniform noise of spread 1": ("1.7", UTILS, DRAW, "mean + std * (torch.rand_like(mean) - 0.5) * 12**0.5"),
    "no noise": ("1.7", UTILS, DRAW, "mean + std"),
    "no spread": ("1.7", UTILS, DRAW, "mean + torch.randn_like(mean)"),
    "one noise for all": ("1.7", UTILS, DRAW, "mean + std * torch.randn(1)"),
    "noise shared by the batch": ("1.7", UTILS, DRAW, "mean + std * torch.randn_like(mean[:1])"),
    "noise shared by the dimensions": ("1.7", UTILS, DRAW, "mean + std * torch.randn_like(mean[..., :1])"),
    "the same noise each time": (
        "1.7", UTILS, DRAW, "mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))",
    ),
    "gradient cut": ("1.7", UTILS, DRAW, "torch.normal(mean, std)"),
    "mean detached": ("1.7", UTILS, DRAW, "mean.detach() + std * torch.randn_like(mean)"),
    "std detached": ("1.7", UTILS, DRAW, "mean + std.detach() * torch.randn_like(mean)"),
    "log_std for log_var": ("1.7", UTILS, KL, "0.5 * (torch.exp(log_std) + mean**2 - 1 - log_std)"),
    "half forgotten": ("1.7", UTILS, KL, "torch.expm1(2 * log_std) + mean**2 - 2 * log_std"),
    "minus one forgotten": ("1.7", UTILS, KL, "0.5 * (torch.exp(2 * log_std) + mean**2) - log_std"),
    "mean not squared": ("1.7", UTILS, KL, "0.5 * (torch.expm1(2 * log_std) + mean) - log_std"),
    "spread not squared": ("1.7", UTILS, KL, "0.5 * (torch.expm1(log_std) + mean**2) - log_std"),
    "negative divergence": ("1.7", UTILS, KL, "-(0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std)"),
    "mean over dimensions": ("1.7", UTILS, "KLD_per_dim(mean, log_std).sum(dim=-1)", "KLD_per_dim(mean, log_std).mean(dim=-1)"),
    "sum over the batch": ("1.7", UTILS, "KLD_per_dim(mean, log_std).sum(dim=-1)", "KLD_per_dim(mean, log_std).sum()"),
    "sum over dimension 1": ("1.7", UTILS, "KLD_per_dim(mean, log_std).sum(dim=-1)", "KLD_per_dim(mean, log_std).sum(dim=1)"),
    "spread clamped": ("1.7", UTILS, KL, "0.5 * (torch.expm1(2 * log_std.clamp(-5, 5)) + mean**2) - log_std"),
    "KL without gradient": ("1.7", UTILS, KL, "0.5 * (torch.expm1(2 * log_std) + mean.detach()**2) - log_std"),
    "bits with the batch": ("1.7", UTILS, BPD, "elbo * math.log2(math.e) / math.prod(img_shape)"),
    "natural logarithm": ("1.7", UTILS, BPD, "elbo / math.prod(img_shape[1:])"),
    "times log 2": ("1.7", UTILS, BPD, "elbo * math.log(2) / math.prod(img_shape[1:])"),
    "without channels": ("1.7", UTILS, BPD, "elbo * math.log2(math.e) / math.prod(img_shape[2:])"),
    "always 784": ("1.7", UTILS, BPD, "elbo * math.log2(math.e) / 784"),
    "bpd averaged": ("1.7", UTILS, BPD, "(elbo * math.log2(math.e) / math.prod(img_shape[1:])).mean()"),
    "bpd negative": ("1.7", UTILS, BPD, "-elbo * math.log2(math.e) / math.prod(img_shape[1:])"),
    "mean for log_std": ("1.7", NETWORKS, "self.mean(hidden).float(), self.log_std(hidden).float()", "self.mean(hidden), self.mean(hidden)"),
    "log_std positive": (
        "1.7", NETWORKS, "self.mean(hidden).float(), self.log_std(hidden).float()", "self.mean(hidden), torch.relu(self.log_std(hidden))",
    ),
    "input dropped": ("1.7", NETWORKS, "x.float() / (GREY_LEVELS - 1) * 2 - 1", "x.float() * 0"),
    "softmax in the decoder": ("1.7", NETWORKS, LOGITS, LOGITS + ".softmax(1)"),
    "sigmoid in the decoder": ("1.7", NETWORKS, LOGITS, LOGITS + ".sigmoid()"),
    "z dropped": ("1.7", NETWORKS, "self.linear(z)", "self.linear(torch.zeros_like(z))"),
    "32x32": ("1.7", NETWORKS, "kernel_size=3, stride=2, padding=1),  # 4 -> 7", "kernel_size=4, stride=2, padding=1),  #"),
    "device fixed": ("1.7", NETWORKS, "next(self.parameters()).device", 'torch.device("cpu")'),
    "pixels averaged": ("1.7", TRAIN, 'reduction="none").sum(dim=(1, 2))', 'reduction="none").mean(dim=(1, 2))'),
    "batch summed": ("1.7", TRAIN, "return rec.mean(), reg.mean()", "return rec.sum(), reg.sum()"),
    "KL left out of the bpd": ("1.7", TRAIN, "elbo_to_bpd(rec + reg", "elbo_to_bpd(rec"),
    "KL subtracted": ("1.7", TRAIN, "elbo_to_bpd(rec + reg", "elbo_to_bpd(rec - reg"),
    "softmax twice": ("1.7", TRAIN, "F.cross_entropy(logits,", "F.cross_entropy(logits.softmax(1),"),
    "spread not exponentiated": (
        "1.7", TRAIN, DECODE,
        "logits = self.decoder(sample_reparameterize(mean, log_std.abs()))",
    ),
    "decoder gets the mean": (
        "1.7", TRAIN, DECODE, "logits = self.decoder(mean)",
    ),
    "z detached": (
        "1.7", TRAIN, DECODE,
        "logits = self.decoder(sample_reparameterize(mean, log_std.exp()).detach())",
    ),
    "variance and spread confused": ("1.7", TRAIN, DECODE, "logits = self.decoder(sample_reparameterize(mean, (log_std / 2).exp()))"),
    "spread squared": ("1.7", TRAIN, DECODE, "logits = self.decoder(sample_reparameterize(mean, (2 * log_std).exp()))"),
    "spread 1": ("1.7", TRAIN, DECODE, "logits = self.decoder(sample_reparameterize(mean, torch.ones_like(mean)))"),
    "KL detached": ("1.7", TRAIN, "elbo_to_bpd(rec + reg,", "elbo_to_bpd(rec + reg.detach(),"),
    "reconstruction detached": ("1.7", TRAIN, "elbo_to_bpd(rec + reg,", "elbo_to_bpd(rec.detach() + reg,"),
    "terms exchanged": ("1.7", TRAIN, "return rec.mean(), reg.mean()", "return reg.mean(), rec.mean()"),
    "bpd in nats": ("1.7", TRAIN, "elbo_to_bpd(rec + reg, imgs.shape).mean()", "(rec + reg).mean()"),
    "bpd of each image": ("1.7", TRAIN, "elbo_to_bpd(rec + reg, imgs.shape).mean()", "elbo_to_bpd(rec + reg, imgs.shape)"),
    "probabilities averaged over the batch": (
        "1.8", TRAIN, "dim=1).permute(0, 2, 3, 1)", "dim=1).permute(0, 2, 3, 1).mean(0, keepdim=True).repeat(batch_size, 1, 1, 1)",
    ),
    "the first z for every image": ("1.8", TRAIN, "self.decoder(z), dim=1)", "self.decoder(z)[:1].repeat(batch_size, 1, 1, 1), dim=1)"),
    "argmax for sampling": ("1.8", TRAIN, SAMPLE, "probabilities.argmax(-1)"),
    "mean for sampling": ("1.8", TRAIN, SAMPLE, "(probabilities * torch.arange(16.0)).sum(-1).round().long()"),
    "uniform pixels": ("1.8", TRAIN, SAMPLE, "torch.randint(0, 16, probabilities.shape[:3])"),
    "softmax over rows": ("1.8", TRAIN, "F.softmax(self.decoder(z), dim=1).permute", "F.softmax(self.decoder(z), dim=2).permute"),
    "pixels in another order": ("1.8", TRAIN, "dim=1).permute(0, 2, 3, 1)", "dim=1).permute(0, 3, 2, 1)"),
    "no softmax": ("1.8", TRAIN, "F.softmax(self.decoder(z), dim=1).permute", "self.decoder(z).exp().clamp(max=1).permute"),
    "softmax twice in sampling": (
        "1.8", TRAIN, "F.softmax(self.decoder(z), dim=1).permute", "F.softmax(F.softmax(self.decoder(z), 1), 1).permute",
    ),
    "uniform z": ("1.8", TRAIN, "z = torch.randn(batch_size", "z = torch.rand(batch_size"),
    "z of zeros": ("1.8", TRAIN, "z = torch.randn(batch_size", "z = torch.zeros(batch_size"),
    "floats": ("1.8", TRAIN, "return pixels.view(batch_size, 1", "return pixels.float().view(batch_size, 1"),
    "one image for all": (
        "1.8", TRAIN, "return pixels.view(batch_size, 1, *probabilities.shape[1:3])",
        "return pixels.view(batch_size, 1, *probabilities.shape[1:3])[:1].expand(batch_size, -1, -1, -1)",
    ),
    "percentiles from 0 to 1": (
        "1.9", UTILS, "(torch.arange(grid_size) + 0.5) / grid_size", "torch.linspace(0.01, 0.99, grid_size)",
    ),
    "no percentiles": ("1.9", UTILS, "torch.special.ndtri(percentiles)", "torch.linspace(-3, 3, grid_size)"),
    "cdf for ppf": ("1.9", UTILS, "torch.special.ndtri(percentiles)", "torch.special.ndtr(percentiles)"),
    "always 20": ("1.9", UTILS, "(torch.arange(grid_size) + 0.5) / grid_size", "(torch.arange(20) + 0.5) / 20"),
    "argmax in the manifold": (
        "1.9", UTILS, "(F.softmax(logits, dim=1) * levels).sum(dim=1, keepdim=True)",
        "logits.argmax(1, keepdim=True) / 15",
    ),
    "probabilities of level 15": (
        "1.9", UTILS, "(F.softmax(logits, dim=1) * levels).sum(dim=1, keepdim=True)", "F.softmax(logits, dim=1)[:, 15:]",
    ),
    "logits as pixels": (
        "1.9", UTILS, "(F.softmax(logits, dim=1) * levels).sum(dim=1, keepdim=True)",
        "(logits * levels).sum(dim=1, keepdim=True)",
    ),
    "only the diagonal": ("1.9", UTILS, "torch.cartesian_prod(axis, axis)", "axis.repeat(grid_size)[:, None].expand(-1, 2)"),
    "grid shuffled": (
        "1.9", UTILS, "torch.cartesian_prod(axis, axis)", "torch.cartesian_prod(axis, axis)[torch.randperm(grid_size**2)]",
    ),
    "rows of another length": ("1.9", UTILS, "nrow=grid_size, padding=0", "nrow=8, padding=0"),
    "decoder left in eval mode": ("1.9", UTILS, "    percentiles = (", "    decoder.eval()\n    percentiles = ("),
    "image with a gradient": ("1.9", UTILS, "nrow=grid_size, padding=0)", "nrow=grid_size, padding=0).requires_grad_()"),
    "frozen decoder": ("1.9", UTILS, "    percentiles = (", "    decoder.requires_grad_(False)\n    percentiles = ("),
}  # fmt: skip

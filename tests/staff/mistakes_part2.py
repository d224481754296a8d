"""Wrong solutions of part 2 that the graded tests must tell from right ones."""
# ruff: noqa: E501

MODELS, TRAIN = "part2_aae/models.py", "part2_aae/train.py"
CODE = "return self.net(x).float()"
IMAGE = "return self.net(hidden.view(len(z), -1, 4, 4)).float()"
LOGIT = "return self.net(z).float()"
RECON = "recon_loss = self.reconstruction_loss(recon_x, x)"
GEN = "gen_loss = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))"
SUM = "ae_loss = lambda_ * recon_loss + (1 - lambda_) * gen_loss"
REAL = "loss_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))"
FAKE = "loss_fake = F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))"
PRIOR = "z_real = torch.randn_like(z_fake)"
DISC = "disc_loss = (loss_real + loss_fake) / 2"
ACCURACY = "accuracy = torch.cat([real > 0, fake <= 0]).float().mean()"
SAMPLE = "return self.decoder(torch.randn(batch_size, self.z_dim, device=self.device))"
LOGS = "return ae_loss, {name: value.detach() for name, value in logs.items()}"
D_LOGS = "return disc_loss, {name: value.detach() for name, value in logs.items()}"
ADAM = "torch.optim.Adam(autoencoder, lr=self.hparams.ae_lr, betas=(0.5, 0.999))"
SGD = "torch.optim.SGD(self.model.discriminator.parameters(), lr=self.hparams.d_lr)"
D_HALF = """            with self.toggled_optimizer(d_optimizer):
                loss, d_logs = self.model.get_loss_discriminator(z.detach())
                self._step(d_optimizer, loss)
"""
AE_HALF = (
    """        with self.toggled_optimizer(ae_optimizer):
            recon_x, z = self.model(x)
            loss, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
            self._step(ae_optimizer, loss)
        if self.adversarial:
"""
    + D_HALF
)
JOINT = """        recon_x, z = self.model(x)
        loss, logs = self.model.get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)
        d_loss, d_logs = self.model.get_loss_discriminator(z)
        ae_optimizer.zero_grad()
        d_optimizer.zero_grad()
        self.manual_backward(loss + d_loss)
        ae_optimizer.step()
        d_optimizer.step()
        if self.adversarial:
"""

# name: question, file, right code, what a student writes in its place
MISTAKES = {
    "code squashed": ("2.4", MODELS, CODE, "return self.net(x).float().tanh()"),
    "code positive": ("2.4", MODELS, CODE, "return self.net(x).float().relu()"),
    "image dropped": ("2.4", MODELS, CODE, "return self.net(0 * x).float()"),
    "code normalized over the batch": ("2.4", MODELS, CODE, "return self.net(x - x.mean(0, keepdim=True)).float()"),
    "code as a grid": ("2.4", MODELS, CODE, "return self.net(x).float()[:, :, None]"),
    "pooled so that the border is lost": ("2.4", MODELS, CODE, "return self.net(F.pad(x[..., 9:19, 9:19], (9,) * 4)).float()"),
    "no tanh": ("2.4", MODELS, "            nn.Tanh(),\n", ""),
    "sigmoid for tanh": ("2.4", MODELS, "            nn.Tanh(),\n", "            nn.Sigmoid(),\n"),
    "hard edges": ("2.4", MODELS, "            nn.Tanh(),\n", "            nn.ReLU(),\n"),
    "32x32": ("2.4", MODELS, "kernel_size=3, stride=2, padding=1),  # 4 -> 7", "kernel_size=4, stride=2, padding=1),  #"),
    "z dropped": ("2.4", MODELS, "self.linear(z)", "self.linear(0 * z)"),
    "half of z": ("2.4", MODELS, "self.linear(z)", "self.linear(torch.cat([z[:, :1], 0 * z[:, 1:]], 1))"),
    "flat images": ("2.4", MODELS, IMAGE, "return self.net(hidden.view(len(z), -1, 4, 4)).float().flatten(1)"),
    "forward turned round": ("2.4", MODELS, "return self.decoder(z), z", "return z, self.decoder(z)"),
    "forward gives the image": ("2.4", MODELS, "return self.decoder(z), z", "return x, z"),
    "forward decodes the prior": ("2.4", MODELS, "return self.decoder(z), z", "return self.decoder(torch.randn_like(z)), z"),
    "summed error": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss(recon_x, x, reduction='sum')"),
    "error of an image": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss(recon_x, x, reduction='sum') / len(x)"),
    "absolute error": ("2.4", MODELS, RECON, "recon_loss = F.l1_loss(recon_x, x)"),
    "root of the error": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss(recon_x, x).sqrt()"),
    "half of the error": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss(recon_x, x) / 2"),
    "cross-entropy of pixels": ("2.4", MODELS, RECON, "recon_loss = F.binary_cross_entropy((recon_x + 1) / 2, (x + 1) / 2)"),
    "error in 0..1": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss((recon_x + 1) / 2, (x + 1) / 2)"),
    "reconstruction detached": ("2.4", MODELS, RECON, "recon_loss = F.mse_loss(recon_x.detach(), x) + 0 * recon_x.mean()"),
    "no recon_loss in the log": ("2.4", MODELS, LOGS, "return ae_loss, {'ae_loss': ae_loss.detach(), 'gen_loss': gen_loss.detach()}"),
    "log with the graph": ("2.4", MODELS, LOGS, "return ae_loss, logs"),
    "at lambda 1 the discriminator too": ("2.4", TRAIN, "if self.adversarial:\n            with", "if True:\n            with"),
    "discriminator asked at lambda 1": ("2.4", MODELS, "if lambda_ != 1:", "if True:"),
    "decoder not trained": ("2.4", TRAIN, "[*self.model.encoder.parameters(), *self.model.decoder.parameters()]", "[*self.model.encoder.parameters()]"),
    "encoder not trained": ("2.4", TRAIN, "[*self.model.encoder.parameters(), *self.model.decoder.parameters()]", "[*self.model.decoder.parameters()]"),
    "lambda not passed on": ("2.5", TRAIN, "get_loss_autoencoder(x, recon_x, z, self.hparams.lambda_)\n            self._step", "get_loss_autoencoder(x, recon_x, z)\n            self._step"),
    "gradients pile up": ("2.4", TRAIN, "        optimizer.zero_grad()\n", ""),
    "uphill": ("2.5", TRAIN, "model.discriminator.parameters(), lr=self.hparams.d_lr", "model.discriminator.parameters(), lr=self.hparams.d_lr, maximize=True"),
    "discriminator never sees the codes": ("2.5", TRAIN, "get_loss_discriminator(z.detach())", "get_loss_discriminator(torch.randn_like(z))"),
    "autoencoder uphill": ("2.4", TRAIN, "self._step(ae_optimizer, loss)", "self._step(ae_optimizer, -loss)"),
    "one backward for both": ("2.5", TRAIN, AE_HALF, JOINT),
    "no step": ("2.4", TRAIN, "        optimizer.step()\n", ""),
    "gradients never made": ("2.4", TRAIN, "        self.manual_backward(loss)\n", ""),
    "sigmoid in the discriminator": ("2.5", MODELS, LOGIT, "return self.net(z).sigmoid().float()"),
    "tanh in the discriminator": ("2.5", MODELS, LOGIT, "return self.net(z).tanh().float()"),
    "logits without a dimension": ("2.5", MODELS, LOGIT, "return self.net(z).float().squeeze(1)"),
    "two logits": ("2.5", MODELS, "nn.Linear(512, 1)", "nn.Linear(512, 2)"),
    "linear discriminator": (
        "2.5", MODELS, "nn.LeakyReLU(0.2),\n            nn.Linear(512, 512),\n            nn.LeakyReLU(0.2)",
        "nn.Linear(512, 512)",
    ),
    "discriminator without z": ("2.5", MODELS, LOGIT, "return self.net(0 * z).float()"),
    "generator wants to be found out": ("2.5", MODELS, GEN, GEN.replace("ones", "zeros")),
    "saturating generator loss": ("2.5", MODELS, GEN, "gen_loss = -F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))"),
    "generator loss summed": ("2.5", MODELS, GEN, GEN[:-1] + ", reduction='sum')"),
    "generator loss on probabilities": ("2.5", MODELS, GEN, "gen_loss = F.binary_cross_entropy(logits.sigmoid(), torch.ones_like(logits))"),
    "logarithm of the sigmoid": ("2.5", MODELS, GEN, "gen_loss = -(logits.sigmoid() + 1e-8).log().mean()"),
    "sigmoid twice": ("2.5", MODELS, GEN, "gen_loss = F.binary_cross_entropy_with_logits(logits.sigmoid(), torch.ones_like(logits))"),
    "squared generator loss": ("2.5", MODELS, GEN, "gen_loss = F.mse_loss(logits.sigmoid(), torch.ones_like(logits))"),
    "generator loss without gradient": ("2.5", MODELS, "logits = self.discriminator(z_fake)", "logits = self.discriminator(z_fake.detach())"),
    "generator asked about the prior": ("2.5", MODELS, "logits = self.discriminator(z_fake)", "logits = self.discriminator(torch.randn_like(z_fake) + 0 * z_fake)"),
    "lambda exchanged": ("2.5", MODELS, SUM, "ae_loss = (1 - lambda_) * recon_loss + lambda_ * gen_loss"),
    "lambda only once": ("2.5", MODELS, SUM, "ae_loss = recon_loss + (1 - lambda_) * gen_loss"),
    "generator unweighted": ("2.5", MODELS, SUM, "ae_loss = lambda_ * recon_loss + gen_loss"),
    "lambda always 0.995": ("2.5", MODELS, SUM, "ae_loss = 0.995 * recon_loss + 0.005 * gen_loss"),
    "generator subtracted": ("2.5", MODELS, SUM, "ae_loss = lambda_ * recon_loss - (1 - lambda_) * gen_loss"),
    "generator left out": ("2.5", MODELS, SUM, "ae_loss = lambda_ * recon_loss"),
    "weighted terms in the log": ("2.5", MODELS, SUM, SUM + "\n            recon_loss = lambda_ * recon_loss"),
    "uniform prior": ("2.5", MODELS, PRIOR, "z_real = torch.rand_like(z_fake)"),
    "uniform prior of spread 1": ("2.5", MODELS, PRIOR, "z_real = (torch.rand_like(z_fake) - 0.5) * 12**0.5"),
    "prior of the codes' spread": ("2.5", MODELS, PRIOR, "z_real = z_fake.std() * torch.randn_like(z_fake)"),
    "wide prior": ("2.5", MODELS, PRIOR, "z_real = 5 * torch.randn_like(z_fake)"),
    "one prior for all": ("2.5", MODELS, PRIOR, "z_real = torch.randn_like(z_fake[:1]).expand_as(z_fake)"),
    "prior shared by the dimensions": ("2.5", MODELS, PRIOR, "z_real = torch.randn_like(z_fake[:, :1]).expand_as(z_fake)"),
    "the same prior each time": ("2.5", MODELS, PRIOR, "z_real = torch.randn(z_fake.shape, generator=torch.Generator().manual_seed(0))"),
    "real and fake exchanged": ("2.5", MODELS, "real, fake = self.discriminator(z_real), self.discriminator(z_fake.detach())", "fake, real = self.discriminator(z_real), self.discriminator(z_fake.detach())"),
    "real called fake": ("2.5", MODELS, REAL, REAL.replace("ones", "zeros")),
    "fake called real": ("2.5", MODELS, FAKE, FAKE.replace("zeros", "ones")),
    "smoothed labels": ("2.5", MODELS, REAL, REAL.replace("torch.ones_like(real)", "0.9 * torch.ones_like(real)")),
    "discriminator's loss on probabilities": ("2.5", MODELS, FAKE, "loss_fake = F.binary_cross_entropy(fake.sigmoid(), torch.zeros_like(fake))"),
    "fake left out": ("2.5", MODELS, DISC, "disc_loss = loss_real"),
    "real left out": ("2.5", MODELS, DISC, "disc_loss = loss_fake"),
    "difference of the halves": ("2.5", MODELS, DISC, "disc_loss = loss_real - loss_fake"),
    "loss summed over the batch": ("2.5", MODELS, DISC, "disc_loss = (loss_real + loss_fake) * len(z_fake)"),
    "accuracy of the fake ones only": ("2.5", MODELS, ACCURACY, "accuracy = (fake <= 0).float().mean()"),
    "accuracy of the real ones only": ("2.5", MODELS, ACCURACY, "accuracy = (real > 0).float().mean()"),
    "accuracy turned round": ("2.5", MODELS, ACCURACY, "accuracy = torch.cat([real <= 0, fake > 0]).float().mean()"),
    "accuracy at half on logits": ("2.5", MODELS, ACCURACY, "accuracy = torch.cat([real > 0.5, fake <= 0.5]).float().mean()"),
    "accuracy in percent": ("2.5", MODELS, ACCURACY, "accuracy = 100 * torch.cat([real > 0, fake <= 0]).float().mean()"),
    "no accuracy": ("2.5", MODELS, D_LOGS, "return disc_loss, {name: value.detach() for name, value in logs.items() if name != 'accuracy'}"),
    "discriminator's log with the graph": ("2.5", MODELS, D_LOGS, "return disc_loss, logs"),
    "uniform z": ("2.5", MODELS, SAMPLE, "return self.decoder(torch.rand(batch_size, self.z_dim, device=self.device))"),
    "one z for all": ("2.5", MODELS, SAMPLE, "return self.decoder(torch.randn(1, self.z_dim).expand(batch_size, -1))"),
    "the same z each time": ("2.5", MODELS, SAMPLE, "return self.decoder(torch.randn(batch_size, self.z_dim, generator=torch.Generator().manual_seed(0)))"),
    "z of zeros": ("2.5", MODELS, SAMPLE, "return self.decoder(torch.zeros(batch_size, self.z_dim))"),
    "samples thresholded": ("2.5", MODELS, SAMPLE, "return self.decoder(torch.randn(batch_size, self.z_dim)).sign()"),
    "default betas": ("2.5", TRAIN, ADAM, "torch.optim.Adam(autoencoder, lr=self.hparams.ae_lr)"),
    "one learning rate": ("2.5", TRAIN, SGD, "torch.optim.SGD(self.model.discriminator.parameters(), lr=self.hparams.ae_lr)"),
    "Adam for the discriminator": ("2.5", TRAIN, SGD, "torch.optim.Adam(self.model.discriminator.parameters(), lr=self.hparams.d_lr)"),
    "SGD for the autoencoder": ("2.5", TRAIN, ADAM, "torch.optim.SGD(autoencoder, lr=self.hparams.ae_lr)"),
    "SGD trains everything": ("2.5", TRAIN, SGD, "torch.optim.SGD(self.model.parameters(), lr=self.hparams.d_lr)"),
    "Adam trains everything": ("2.5", TRAIN, ADAM, "torch.optim.Adam(self.model.parameters(), lr=self.hparams.ae_lr, betas=(0.5, 0.999))"),
    "discriminator not trained": ("2.5", TRAIN, D_HALF, "            d_logs = self.model.get_loss_discriminator(z.detach())[1]\n"),
    "discriminator trained every other batch": ("2.5", TRAIN, "if self.adversarial:\n            with", "if self.adversarial and batch_idx % 2:\n            with"),
    "autoencoder not trained": ("2.5", TRAIN, "            self._step(ae_optimizer, loss)\n", ""),
}  # fmt: skip
